import { signal } from "@preact/signals";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Scan } from "../../src/scan/scan";
import { reading } from "../../src/state";
import { Volume } from "../../src/view/volume";
import { FakeReading } from "../panels/fake";
import { act, button, mount } from "../panels/mount";
import { grid } from "../scan/grid";

// niivue needs a graphics card, or a processor's stand-in for one
const render = vi.hoisted(() => ({ show: vi.fn(), mask: vi.fn(), shows: vi.fn(), window: vi.fn(), close: vi.fn() }));
vi.mock("../../src/view/render", () => ({ mostVoxels: () => 8, Render: { on: async () => render } }));

const AGAIN = "Try again";
const settled = () => act(() => new Promise<void>((go) => setTimeout(go, 5)));

function scan(): Scan {
  const pixels = { rows: 2, columns: 2, channels: 1, data: new Int16Array(4) } as const;
  const geometry = grid({ shape: [1, 2, 2] });
  const there = { loaded: signal(1), version: signal(0), slice: () => pixels, value: () => 0, close: () => {} };
  return { caseId: "case", geometry, ...there };
}

beforeEach(() => {
  for (const one of Object.values(render)) one.mockReset();
  vi.spyOn(HTMLCanvasElement.prototype, "getContext").mockReturnValue({ getExtension: () => null } as never);
  const open = new FakeReading();
  open.masks.put(1, 0);
  reading.value = open;
});
afterEach(() => {
  reading.value = null;
  vi.restoreAllMocks();
});

describe("3D", () => {
  it("gives its context back where the scan cannot be shown", async () => {
    render.show.mockRejectedValue(new Error("no memory"));
    const root = await mount(<Volume scan={scan()} />);
    await settled();
    expect(render.close).toHaveBeenCalledOnce();
    expect(button(root, AGAIN)).toBeTruthy();
  });

  it("says when masks cannot be shown, once", async () => {
    render.mask.mockRejectedValue(new Error("lost"));
    const root = await mount(<Volume scan={scan()} />);
    await settled();
    expect(button(root, AGAIN)).toBeTruthy();
    expect(render.mask).toHaveBeenCalledOnce();
  });

  it("says when the graphics card was taken away", async () => {
    const root = await mount(<Volume scan={scan()} />);
    await settled();
    expect(() => button(root, AGAIN)).toThrow();
    await act(() => void root.querySelector("canvas")!.dispatchEvent(new Event("webglcontextlost")));
    expect(button(root, AGAIN)).toBeTruthy();
  });
});
