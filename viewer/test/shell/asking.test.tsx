import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Asking, agreed, takeBack } from "../../src/shell/asking";

const LEAVE = { title: "Leave?", text: "Lines are lost.", yes: "Leave", no: "Stay" };
let root: HTMLElement;

beforeEach(() => {
  root = document.body.appendChild(document.createElement("div"));
  act(() => render(<Asking />, root));
});
afterEach(() => {
  act(() => render(null, root));
  root.remove();
});

async function answered(press: () => void): Promise<boolean> {
  let answer = Promise.resolve(false);
  act(() => {
    answer = agreed(LEAVE);
  });
  act(press);
  return answer;
}

function button(name: string): HTMLButtonElement {
  return [...root.querySelectorAll("button")].find((one) => one.textContent === name)!;
}

describe("a question", () => {
  it("goes on with what is pressed, and is gone then", async () => {
    expect(await answered(() => button("Leave").click())).toBe(true);
    expect(root.querySelector("dialog")).toBeNull();
    expect(await answered(() => button("Stay").click())).toBe(false);
  });

  it("that is closed, overtaken by another one, or has nobody to answer it any more is answered by no", async () => {
    const key = new KeyboardEvent("keydown", { key: "Escape", bubbles: true });
    expect(await answered(() => void button("Stay").dispatchEvent(key))).toBe(false);
    expect(await answered(() => void agreed(LEAVE))).toBe(false);
    expect(await answered(takeBack)).toBe(false);
    expect(root.querySelector("dialog")).toBeNull();
  });
});
