// A canvas for tests: happy-dom draws nothing, so what is asked of the context is written down.

/** "fillRect 0 0 9 9", in the order of the calls, of all canvases that were made by it. */
export function canvasOf(calls: string[]): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { getContext: () => contextOf(calls) });
  return canvas;
}

export function contextOf(calls: string[]): CanvasRenderingContext2D {
  const set: Record<string | symbol, unknown> = {};
  return new Proxy(set, {
    get: (_, name) => {
      if (name in set) return set[name];
      return (...how: unknown[]) => {
        calls.push([String(name), ...how.map((one) => (typeof one === "object" ? "{}" : one))].join(" "));
        if (name === "measureText") return { width: 6 * String(how[0]).length };
        if (name === "createImageData") return { width: how[0], height: how[1], data: new Uint8ClampedArray(4e5) };
        return undefined;
      };
    },
  }) as unknown as CanvasRenderingContext2D;
}
