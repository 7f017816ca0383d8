// The scan in 3D, with its structures. What draws it is fetched when somebody looks at it.

import { type Signal, useSignal, useSignalEffect } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { type Key, t } from "../i18n";
import type { Reading } from "../reading/reading";
import type { Scan } from "../scan/scan";
import { reading, window_ } from "../state";
import type { Facing, Render, Shows } from "./render";
import { labelsOf, type Solid, solidOf, solidWindow } from "./solid";

type State = "waiting" | "making" | "ready" | "failed";

/** ms between two looks at masks that change */
const MASKS_EVERY = 1000;
/** ms that a window rests before 3D follows */
const WINDOW_REST = 200;
/** Degrees a CSS pixel, and a key. */
const TURN = 0.5;
const TURN_BY_KEY = 10;

const shows = { scan: "view.3d.scan", both: "view.3d.both", structures: "view.3d.structures" } as const;

export function Volume({ scan }: { scan: Scan }) {
  const problem = whyNot(scan);
  const attempt = useSignal(0);
  return (
    <div class="view-pane view-volume">
      {problem ? (
        <p class="view-note">{t(problem)}</p>
      ) : (
        <Shown key={`${scan.caseId} ${attempt.value}`} scan={scan} again={attempt} />
      )}
    </div>
  );
}

function whyNot(scan: Scan): Key | null {
  if (scan.geometry.colour) return "view.3d.colour";
  // it may turn out while it comes
  scan.loaded.value;
  if (scan.whole === false) return "view.3d.large";
  return hasWebGl() ? null : "view.3d.none";
}

let webGl: boolean | null = null;
function hasWebGl(): boolean {
  if (webGl === null) {
    const context = document.createElement("canvas").getContext("webgl2");
    webGl = context !== null;
    context?.getExtension("WEBGL_lose_context")?.loseContext();
  }
  return webGl;
}

function Shown({ scan, again }: { scan: Scan; again: Signal<number> }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const state = useSignal<State>("waiting");
  const solid = useSignal<{ render: Render; solid: Solid } | null>(null);
  const what = useSignal<Shows>("both");
  const here = scan.loaded.value >= 1;

  useEffect(() => {
    if (!here) return;
    let left = false;
    let render: Render | null = null;
    const element = canvas.current!;
    // a graphics card that was taken away draws nothing more
    const lost = (): void => {
      if (left) return;
      solid.value = null;
      state.value = "failed";
    };
    element.addEventListener("webglcontextlost", lost);
    state.value = "making";
    make(scan, element)
      .then((made) => {
        render = made?.render ?? null;
        if (left) render?.close();
        else if (made) {
          solid.value = made;
          state.value = "ready";
        }
      })
      .catch(() => {
        if (!left) state.value = "failed";
      });
    return () => {
      left = true;
      element.removeEventListener("webglcontextlost", lost);
      solid.value = null;
      render?.close();
    };
  }, [scan, here]);

  useSignalEffect(() => {
    const { low, high } = solidWindow(scan.geometry, window_.value);
    const made = solid.value;
    const timer = setTimeout(() => made?.render.window(low, high), WINDOW_REST);
    return () => clearTimeout(timer);
  });
  useSignalEffect(() => {
    const made = solid.value;
    const of = reading.value;
    if (!made || !of) return;
    return follow(
      made.render,
      made.solid,
      of,
      () => what.peek(),
      () => (state.value = "failed"),
    );
  });
  useSignalEffect(() => solid.value?.render.shows(what.value));

  return (
    <>
      <View canvas={canvas} made={solid} />
      {state.value === "ready" ? <Choice what={what} /> : <Note state={state.value} scan={scan} again={again} />}
    </>
  );
}

async function make(scan: Scan, canvas: HTMLCanvasElement): Promise<{ render: Render; solid: Solid } | null> {
  const { mostVoxels, Render } = await import("./render");
  const solid = await solidOf(scan, mostVoxels());
  if (!solid || !canvas.isConnected) return null;
  const render = await Render.on(canvas);
  const { low, high } = solidWindow(scan.geometry, window_.peek());
  try {
    await render.show(solid, low, high);
  } catch (error) {
    // browsers have few contexts to give
    render.close();
    throw error;
  }
  return { render, solid };
}

/** Show masks as they change, but not all the time. Ends by what it returns, and when one cannot be shown. */
function follow(render: Render, solid: Solid, of: Reading, what: () => Shows, failed: () => void): () => void {
  let ended = false;
  let busy = false;
  let shown = "";
  const look = async (): Promise<void> => {
    const objects = of.objects.peek();
    const now = `${of.masks.version.peek()} ${objects.map((one) => one.id + one.colour + one.visible).join()}`;
    if (busy || now === shown || document.hidden) return;
    busy = true;
    try {
      const drawn = objects.filter((one) => one.visible && of.masks.slices(one.id).length > 0);
      const ids = drawn.map((one) => one.id);
      const labels = drawn.length ? await labelsOf(of.masks, ids, solid) : null;
      if (ended) return;
      await render.mask(solid, labels, drawn);
      render.shows(what());
      shown = now;
    } catch {
      if (!ended) failed();
      end();
    } finally {
      busy = false;
    }
  };
  const timer = setInterval(() => void look(), MASKS_EVERY);
  const end = (): void => {
    ended = true;
    clearInterval(timer);
  };
  void look();
  return end;
}

function Note({ state, scan, again }: { state: State; scan: Scan; again: Signal<number> }) {
  if (state === "failed") {
    return (
      <div class="view-note" role="status">
        <p>{t("view.3d.failed")}</p>
        <button type="button" class="view-text-button" onClick={() => again.value++}>
          {t("view.3d.again")}
        </button>
      </div>
    );
  }
  const text =
    state === "making" ? t("view.3d.making") : t("view.3d.waiting", { percent: Math.floor(scan.loaded.value * 100) });
  return (
    <p class="view-note" role="status">
      {text}
    </p>
  );
}

function Choice({ what }: { what: Signal<Shows> }) {
  return (
    <fieldset class="view-choice" aria-label={t("view.3d.what")}>
      {(Object.keys(shows) as Shows[]).map((one) => (
        <button
          key={one}
          type="button"
          class="view-text-button"
          aria-pressed={what.value === one}
          onClick={() => {
            what.value = one;
          }}
        >
          {t(shows[one])}
        </button>
      ))}
    </fieldset>
  );
}

/** Turned by hand and keys. */
function View({
  canvas,
  made,
}: {
  canvas: { current: HTMLCanvasElement | null };
  made: Signal<{ render: Render } | null>;
}) {
  const fingers = useRef(new Map<number, { x: number; y: number }>());
  const turn = (by: (facing: Facing) => Facing): void => {
    const render = made.peek()?.render;
    render?.turn(by(render.facing));
  };
  const drag = (event: PointerEvent): void => {
    const before = fingers.current.get(event.pointerId);
    if (!before) return;
    const apart = spread(fingers.current);
    const [byX, byY] = [event.clientX - before.x, event.clientY - before.y];
    fingers.current.set(event.pointerId, { x: event.clientX, y: event.clientY });
    const wider = spread(fingers.current);
    if (apart && wider) turn((facing) => ({ ...facing, zoom: (facing.zoom * wider) / apart }));
    else {
      turn(({ azimuth, elevation, zoom }) => ({
        azimuth: azimuth + byX * TURN,
        elevation: elevation + byY * TURN,
        zoom,
      }));
    }
  };
  const leave = (event: PointerEvent): void => {
    fingers.current.delete(event.pointerId);
  };
  return (
    <div
      class="view-solid"
      role="application"
      aria-label={t("view.3d.label")}
      // biome-ignore lint/a11y/noNoninteractiveTabindex: an application takes keys, that is what the role says
      tabIndex={0}
      onPointerDown={(event) => {
        event.currentTarget.setPointerCapture(event.pointerId);
        fingers.current.set(event.pointerId, { x: event.clientX, y: event.clientY });
      }}
      onPointerMove={drag}
      onPointerUp={leave}
      onPointerCancel={leave}
      onContextMenu={(event) => event.preventDefault()}
      onWheel={(event) => {
        event.preventDefault();
        const factor = Math.exp(-Math.max(-120, Math.min(120, event.deltaY)) / 600);
        turn((facing) => ({ ...facing, zoom: facing.zoom * factor }));
      }}
      onKeyDown={(event) => {
        const by = keyTurn(event.key);
        if (!by || event.ctrlKey || event.metaKey || event.altKey) return;
        event.preventDefault();
        event.stopPropagation();
        turn(({ azimuth, elevation, zoom }) => ({
          azimuth: azimuth + by[0],
          elevation: elevation + by[1],
          zoom: zoom * by[2],
        }));
      }}
    >
      <canvas class="view-canvas" ref={canvas} />
    </div>
  );
}

/** What a key adds to azimuth and elevation, and by what it multiplies the zoom. */
function keyTurn(key: string): readonly [number, number, number] | null {
  switch (key) {
    case "ArrowLeft":
      return [-TURN_BY_KEY, 0, 1];
    case "ArrowRight":
      return [TURN_BY_KEY, 0, 1];
    case "ArrowUp":
      return [0, -TURN_BY_KEY, 1];
    case "ArrowDown":
      return [0, TURN_BY_KEY, 1];
    case "+":
    case "=":
      return [0, 0, 1.2];
    case "-":
      return [0, 0, 1 / 1.2];
    default:
      return null;
  }
}

/** How far two fingers are apart; 0: there are not two. */
function spread(fingers: ReadonlyMap<number, { x: number; y: number }>): number {
  const [a, b] = [...fingers.values()];
  return a && b ? Math.hypot(a.x - b.x, a.y - b.y) : 0;
}
