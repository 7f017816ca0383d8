import { beforeEach, describe, expect, it } from "vitest";
import { reachable, trapTab } from "../../src/shell/focus";

function tab(shiftKey = false): KeyboardEvent {
  return new KeyboardEvent("keydown", { key: "Tab", shiftKey, cancelable: true });
}

let card: HTMLElement;
const at = () => document.activeElement?.id;

beforeEach(() => {
  document.body.innerHTML = `
    <button id="outside"></button>
    <div id="card">
      <button id="first"></button><input id="middle" /><button disabled id="off"></button>
      <div hidden><button id="hidden"></button></div><a id="last" href="#/">x</a>
    </div>`;
  card = document.getElementById("card")!;
});

describe("Tab inside of a card", () => {
  it("stops at what can be used, in order", () => {
    expect(reachable(card).map((one) => one.id)).toEqual(["first", "middle", "last"]);
  });

  it("goes on at the first behind the last, and the other way", () => {
    document.getElementById("last")!.focus();
    expect(trapTab(tab(), card)).toBe(true);
    expect(at()).toBe("first");
    expect(trapTab(tab(true), card)).toBe(true);
    expect(at()).toBe("last");
  });

  it("is the browser's in between", () => {
    document.getElementById("middle")!.focus();
    const event = tab();
    expect(trapTab(event, card)).toBe(false);
    expect(event.defaultPrevented).toBe(false);
  });

  it("comes in from outside", () => {
    document.getElementById("outside")!.focus();
    trapTab(tab(), card);
    expect(at()).toBe("first");
  });

  it("goes nowhere when nothing can be used", () => {
    card.innerHTML = "";
    const event = tab();
    expect(trapTab(event, card)).toBe(true);
    expect(event.defaultPrevented).toBe(true);
  });
});
