import { signal } from "@preact/signals";
import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Geometry } from "../../src/api/types";
import type { Reading } from "../../src/reading/reading";
import { activeAxis, cursor, layout, locked, reading, scan, window_ } from "../../src/state";
import { running } from "../../src/view/looking";
import { Planes } from "../../src/view/stage";
import { grid, ORDERS } from "../scan/grid";

vi.mock("../../src/panels/strip", () => ({
  Strip: ({ reversed }: { reversed: boolean }) => <i class="strip">{reversed ? "up" : "down"}</i>,
}));

const WINDOWS = [
  { name: "auto", low: -160, high: 240 },
  { name: "lung", low: -1350, high: 150 },
];
let page: HTMLElement;

async function open(geometry: Geometry, looked?: (slice: number) => void): Promise<void> {
  cursor.value = [1, 1, 0];
  window_.value = WINDOWS[0]!;
  activeAxis.value = geometry.axis;
  await act(() => {
    scan.value = {
      caseId: "case",
      geometry: { ...geometry, windows: WINDOWS },
      loaded: signal(1),
      version: signal(0),
      slice: () => undefined,
      value: () => -57,
      close: () => {},
    };
    if (looked) reading.value = { axis: geometry.axis, look: looked } as unknown as Reading;
  });
}

beforeEach(() => {
  layout.value = "one";
  scan.value = null;
  reading.value = null;
  page = document.createElement("div");
  document.body.append(page);
  act(() => render(<Planes />, page));
});
afterEach(() => {
  act(() => render(null, page));
  page.remove();
  reading.value = null;
  scan.value = null;
});

const all = (selector: string): Element[] => [...page.querySelectorAll(selector)];
const texts = (selector: string): string[] => all(selector).map((one) => one.textContent!.replace(/\s+/g, " ").trim());

describe("planes", () => {
  it("say what they are, where, and that they take keys", async () => {
    await open(grid());
    const plane = page.querySelector("[role=application]")!;
    expect(plane.getAttribute("aria-label")).toBe("Axial, slice 1 / 3");
    expect(plane.getAttribute("tabindex")).toBe("0");
    expect(document.getElementById(plane.getAttribute("aria-describedby")!)!.textContent).toContain("Arrow up");
    expect(texts(".view-letter")).toEqual(["R", "L", "A", "P"]);
    expect(texts(".view-readout")[0]).toContain("voxel 1 1 0 -57 HU");
  });

  it("are axial, coronal and sagittal beside 3D, and one of them enlarged", async () => {
    await open(grid());
    await act(() => {
      layout.value = "four";
    });
    expect(texts(".view-corner")).toEqual(["Axial 1 / 3", "Coronal 2 / 4", "Sagittal 2 / 5"]);
    expect(all(".view-volume")).toHaveLength(1);
    await act(() => (page.querySelectorAll(".view-corner")[2] as HTMLElement).click());
    expect(texts(".view-corner")).toEqual(["Sagittal 2 / 5"]);
    expect(layout.value).toBe("one");
  });

  it("of a picture are one, without letters, slices or 3D, whatever the layout", async () => {
    layout.value = "four";
    await open(grid({ shape: [1, 4, 5], calibrated: false, axcodes: null }));
    expect(texts(".view-corner")).toEqual(["Picture"]);
    expect(all(".view-letter, .view-slider, .view-volume")).toHaveLength(0);
  });

  it("tell the reading which slice is looked at", async () => {
    const looked: number[] = [];
    await open(grid(), (slice) => void looked.push(slice));
    await act(() => {
      cursor.value = [1, 1, 2];
    });
    expect(looked).toEqual([0, 2]);
  });
});

describe("the bar of slices", () => {
  it("has the head at the top, and the strip the same way", async () => {
    const upwards = ORDERS.find((order) => order.axcodes === "LPS")!;
    await open({ ...upwards, axis: "k" }, () => {});
    expect(page.querySelector(".view-slider")!.classList.contains("view-slider-up")).toBe(true);
    expect(texts(".strip")).toEqual(["up"]);
  });

  it("moves the crosshair", async () => {
    await open(grid());
    const slider = page.querySelector<HTMLInputElement>(".view-slider")!;
    expect(slider.getAttribute("aria-label")).toBe("Axial slices");
    slider.value = "2";
    await act(() => void slider.dispatchEvent(new Event("input", { bubbles: true })));
    expect(cursor.value).toEqual([1, 1, 2]);
    expect(slider.getAttribute("aria-valuetext")).toBe("3 / 3");
  });
});

describe("the window", () => {
  it("is a preset, with the key that chooses it", async () => {
    await open(grid());
    expect(texts(".view-window option")).toEqual(["As the model sees it (1)", "Lung (2)"]);
  });

  it("that a pointer chose leaves the keys to the picture, one that keys chose does not", async () => {
    await open(grid());
    const select = page.querySelector<HTMLSelectElement>(".view-window select")!;
    const choose = async (by: Event, value: string): Promise<void> => {
      select.focus();
      select.dispatchEvent(by);
      select.value = value;
      await act(() => void select.dispatchEvent(new Event("change", { bubbles: true })));
    };
    await choose(new KeyboardEvent("keydown", { key: "ArrowDown" }), "1");
    expect([window_.value.name, document.activeElement]).toEqual(["lung", select]);
    await choose(new Event("pointerdown"), "0");
    expect([window_.value.name, document.activeElement]).toEqual(["auto", page.querySelector(".view-plane")]);
  });

  it("can be typed as level and width", async () => {
    await open(grid());
    const [level, width] = all(".view-number input") as HTMLInputElement[];
    expect([level!.value, width!.value]).toEqual(["40", "400"]);
    level!.value = "60";
    await act(() => void level!.dispatchEvent(new Event("change", { bubbles: true })));
    expect(window_.value).toEqual({ name: "own", low: -140, high: 260 });
  });

  it("has a width above nothing", async () => {
    await open(grid());
    const width = (all(".view-number input") as HTMLInputElement[])[1]!;
    width.value = "0";
    await act(() => void width.dispatchEvent(new Event("change", { bubbles: true })));
    expect(window_.value.name).toBe("auto");
    expect(width.value).toBe("400");
  });
});

function put(what: { value: boolean }, is: boolean): Promise<void> {
  return act(() => {
    what.value = is;
  });
}

describe("slices that run by", () => {
  it("stop behind a lock, and where nobody looks", async () => {
    await open(grid());
    await put(running, true);
    await put(locked, true);
    expect(running.value).toBe(false);
    await put(locked, false);
    await put(running, true);
    const hidden = vi.spyOn(document, "hidden", "get").mockReturnValue(true);
    await act(() => void document.dispatchEvent(new Event("visibilitychange")));
    expect(running.value).toBe(false);
    hidden.mockRestore();
  });
});

describe("3D", () => {
  it("says so where the browser has none", async () => {
    await open(grid());
    await act(() => {
      layout.value = "volume";
    });
    expect(all(".view-plane")).toHaveLength(0);
    expect(page.querySelector(".view-volume")!.textContent).toContain("WebGL 2");
  });

  it("is not made of colours", async () => {
    await open(grid({ colour: true }));
    await act(() => {
      layout.value = "volume";
    });
    expect(page.querySelector(".view-volume")!.textContent).toContain("colour");
  });
});
