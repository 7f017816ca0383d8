import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Reading } from "../../src/reading/reading";
import { dialogs } from "../../src/shell/dialog";
import { helpShown } from "../../src/shell/help";
import { dispatch, typing } from "../../src/shell/keys";
import { layout, locked, reading } from "../../src/state";

const page = vi.fn(() => false);
const tools = vi.fn((event: KeyboardEvent) => event.key === "b");
const view = vi.fn((event: KeyboardEvent) => event.key === "b" || event.key === "c");
const PARTS = [page, tools, view];

function press(key: string, target: EventTarget = document.body, more: KeyboardEventInit = {}): KeyboardEvent {
  const event = new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true, ...more });
  target.dispatchEvent(event);
  return event;
}

function element(html: string): HTMLElement {
  document.body.innerHTML = html;
  return document.body.firstElementChild as HTMLElement;
}

beforeEach(() => {
  vi.clearAllMocks();
  document.body.innerHTML = "";
  reading.value = {} as Reading;
});
afterEach(() => {
  reading.value = null;
  locked.value = false;
  dialogs.value = 0;
  helpShown.value = false;
  layout.value = "one";
});

describe("a key", () => {
  it("goes to the first part that it is meant for, and the browser does nothing with it", () => {
    const event = press("b");
    expect(dispatch(event, PARTS)).toBe(true);
    expect(tools).toHaveBeenCalledOnce();
    expect(view).not.toHaveBeenCalled();
    expect(event.defaultPrevented).toBe(true);
  });

  it("goes on to the next part, and is the browser's when it is nobody's", () => {
    expect(dispatch(press("c"), PARTS)).toBe(true);
    const event = press("q");
    expect(dispatch(event, PARTS)).toBe(false);
    expect(event.defaultPrevented).toBe(false);
  });

  it("is a letter in a field", () => {
    for (const html of ["<input>", '<input type="search">', "<textarea></textarea>", "<select></select>"]) {
      expect(dispatch(press("b", element(html)), PARTS)).toBe(false);
    }
    expect(tools).not.toHaveBeenCalled();
  });

  it("is none on a slider or a box to tick", () => {
    expect(typing(element('<input type="range">'))).toBe(false);
    expect(typing(element('<input type="checkbox">'))).toBe(false);
  });

  it("works the control that has the focus: Enter a button, arrows a slider", () => {
    const every = vi.fn(() => true);
    expect(dispatch(press("Enter", element("<button></button>")), [every])).toBe(false);
    expect(dispatch(press(" ", element("<button></button>")), [every])).toBe(false);
    expect(dispatch(press("Enter", element("<button></button>"), { shiftKey: true }), [every])).toBe(true);
    expect(dispatch(press("ArrowUp", element('<div role="slider" tabindex="0"></div>')), [every])).toBe(false);
    expect(dispatch(press("ArrowUp", element("<button></button>")), [every])).toBe(true);
  });

  it("is not heard behind a card, a locked page, or once another took it", () => {
    dialogs.value = 1;
    expect(dispatch(press("b"), PARTS)).toBe(false);
    dialogs.value = 0;
    locked.value = true;
    expect(dispatch(press("b"), PARTS)).toBe(false);
    locked.value = false;
    const taken = press("b");
    taken.preventDefault();
    expect(dispatch(taken, PARTS)).toBe(false);
    expect(tools).not.toHaveBeenCalled();
  });

  it("without an open scan is the page's alone", () => {
    reading.value = null;
    expect(dispatch(press("b"), PARTS)).toBe(false);
    expect(page).toHaveBeenCalledOnce();
    expect(tools).not.toHaveBeenCalled();
  });
});

describe("the page's own keys", () => {
  it("? shows the card of keys", () => {
    expect(dispatch(press("?", document.body, { shiftKey: true }))).toBe(true);
    expect(helpShown.value).toBe(true);
  });

  it("V goes through the layouts, on a Korean keyboard too", () => {
    for (const [key, expected] of [
      ["v", "four"],
      ["ㅍ", "volume"],
      ["v", "one"],
    ] as const) {
      dispatch(press(key, document.body, { code: "KeyV" }));
      expect(layout.value).toBe(expected);
    }
  });

  it("are not those with Ctrl", () => {
    dispatch(press("v", document.body, { code: "KeyV", ctrlKey: true }));
    expect(layout.value).toBe("one");
  });
});
