import { signal } from "@preact/signals";
import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { project } from "../../src/annotate/project";
import { ApiError } from "../../src/api/http";
import type { CaseInfo } from "../../src/api/types";
import type { Reading } from "../../src/reading/reading";
import { Banners, Foot } from "../../src/shell/notices";
import { TopBar } from "../../src/shell/top-bar";
import { openCase, reading, route } from "../../src/state";
import { aProject } from "../annotate/project";
import { FakeReading } from "../panels/fake";

let root: HTMLElement;

beforeEach(() => {
  root = document.body.appendChild(document.createElement("div"));
});
afterEach(() => {
  act(() => render(null, root));
  root.remove();
  reading.value = null;
});

describe("a reading that is over", () => {
  it.each([
    [404, "closed in another window", 1],
    [409, "files of this scan have changed", 1],
    [403, "may no longer see", 0],
  ])("by %i says why, and offers what may help", (status, text, buttons) => {
    const open = Object.assign(new FakeReading(), { over: signal(new ApiError(status, "")) });
    reading.value = open as unknown as Reading;
    act(() => render(<Banners />, root));
    expect(root.textContent).toContain(text);
    expect(root.querySelectorAll("button").length).toBe(buttons);
  });
});

describe("a scan that is the reader's task", () => {
  afterEach(() => {
    project.value = null;
    openCase.value = null;
    route.value = { page: "cases" };
  });

  it("leads to the task, where it is opened as any scan is", () => {
    reading.value = new FakeReading();
    openCase.value = { id: "case" } as CaseInfo;
    route.value = { page: "case", id: "case" };
    project.value = aProject();
    act(() => render(<Banners />, root));
    expect(root.textContent).toBe("");
    act(() => {
      project.value = { ...aProject(), me: { ...aProject().me, task: "t1", case: "case" } };
    });
    expect(root.textContent).toContain("This scan is your task.");
    act(() => root.querySelector("button")!.click());
    expect(location.hash).toBe("#/task/t1");
    location.hash = "";
  });
});

describe("what is on the way", () => {
  it("is not said to be saved, from the first moment on", () => {
    const open = new FakeReading();
    reading.value = open;
    act(() => render(<TopBar />, root));
    expect(root.textContent).toContain("Saved");
    act(() => {
      open.pending.value = 1;
    });
    expect(root.textContent).not.toContain("Saved");
  });
});

describe("what may be done with the weights", () => {
  it.each([
    [null, "Model: own · licence of its weights: not stated"],
    ["CC BY 4.0", "Model: own · licence of its weights: CC BY 4.0"],
  ])("is said: %s", (licence, text) => {
    const model = { name: "own", licence, knowsClicks: false };
    reading.value = Object.assign(new FakeReading(), { model }) as unknown as Reading;
    act(() => render(<Foot />, root));
    expect(root.textContent).toContain(text);
  });
});
