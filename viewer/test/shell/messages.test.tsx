import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ApiError } from "../../src/api/http";
import { Messages } from "../../src/shell/messages";
import { tell } from "../../src/shell/tell";
import { locked, messages, say } from "../../src/state";

let root: HTMLElement;
const texts = (role: string) =>
  [...root.querySelectorAll(`[role="${role}"] .shell-message p`)].map((one) => one.textContent);

beforeEach(() => {
  vi.useFakeTimers();
  messages.value = [];
  root = document.createElement("div");
  document.body.append(root);
  act(() => render(<Messages />, root));
});
afterEach(() => {
  act(() => render(null, root));
  root.remove();
  locked.value = false;
  vi.useRealTimers();
});

describe("messages", () => {
  it("that are errors are read at once, others when there is time; both places are there before", () => {
    expect(root.querySelectorAll('[aria-live="assertive"], [aria-live="polite"]').length).toBe(2);
    act(() => {
      say({ kind: "error", text: "bad" });
      say({ kind: "info", text: "good" });
    });
    expect(texts("alert")).toEqual(["Problem: bad"]);
    expect(texts("status")).toEqual(["Note: good"]);
  });

  it("are out of reach while the password is asked for", () => {
    const region = root.querySelector<HTMLElement>(".shell-messages")!;
    expect(region.inert).toBe(false);
    act(() => {
      locked.value = true;
    });
    expect(region.inert).toBe(true);
  });

  it("leave room for four, and one that goes by itself pushes out none that there is something to press on", () => {
    const run = () => {};
    act(() => {
      say({ kind: "error", text: "try", action: { text: "again", run } });
      for (const text of ["one", "two", "three", "four"]) say({ kind: "info", text });
    });
    expect(messages.value.map((one) => one.text)).toEqual(["try", "two", "three", "four"]);
    act(() => {
      for (const text of ["try a", "try b", "try c"]) say({ kind: "error", text, action: { text: "again", run } });
      say({ kind: "info", text: "five" });
    });
    expect(messages.value.map((one) => one.text)).toEqual(["try", "try a", "try b", "try c", "five"]);
  });

  it("go after a while, errors and those with a button stay", () => {
    act(() => {
      say({ kind: "info", text: "short" });
      say({ kind: "error", text: "long" });
      say({ kind: "info", text: "asks", action: { text: "yes", run: () => {} } });
    });
    act(() => void vi.advanceTimersByTime(60_000));
    expect(messages.value.map((one) => one.text)).toEqual(["long", "asks"]);
  });

  it("stay as long as a pointer is on them", () => {
    act(() => void say({ kind: "info", text: "short" }));
    const one = root.querySelector(".shell-message")!;
    act(() => void one.dispatchEvent(new Event("pointerenter")));
    act(() => void vi.advanceTimersByTime(60_000));
    expect(messages.value.length).toBe(1);
    act(() => void one.dispatchEvent(new Event("pointerleave")));
    act(() => void vi.advanceTimersByTime(60_000));
    expect(messages.value.length).toBe(0);
  });

  it("can be dismissed, and do what their button says", () => {
    const run = vi.fn();
    act(() => void say({ kind: "error", text: "bad", action: { text: "again", run } }));
    act(() => root.querySelector<HTMLButtonElement>(".shell-message .button-quiet")!.click());
    expect(run).toHaveBeenCalledOnce();
    expect(messages.value).toEqual([]);
    act(() => void say({ kind: "error", text: "bad" }));
    act(() => root.querySelector<HTMLButtonElement>(".shell-message .button-icon")!.click());
    expect(messages.value).toEqual([]);
  });
});

describe("what went wrong", () => {
  const retry = () => {};
  const offered = (error: unknown) => {
    messages.value = [];
    tell(error, retry);
    return messages.value[0]?.action !== undefined;
  };

  it("is tried again where that may help", () => {
    expect(offered(new ApiError(503, "busy"))).toBe(true);
    expect(offered(new ApiError(0, ""))).toBe(true);
    expect(offered(new ApiError(429, ""))).toBe(true);
    expect(offered(new ApiError(422, "that is no scan"))).toBe(false);
    expect(messages.value[0]?.text).toContain("that is no scan");
  });

  it("is not said when somebody gave it up, or a form says it", () => {
    locked.value = true;
    for (const error of [new DOMException("", "AbortError"), new ApiError(401, ""), new ApiError(423, "")]) tell(error);
    expect(messages.value).toEqual([]);
  });
});
