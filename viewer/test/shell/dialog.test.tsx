import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Dialog, dialogs } from "../../src/shell/dialog";
import { locked } from "../../src/state";

let root: HTMLElement;
const onClose = vi.fn();

beforeEach(() => {
  onClose.mockClear();
  document.body.innerHTML = '<button id="before"></button><div id="root"></div>';
  root = document.getElementById("root")!;
  document.getElementById("before")!.focus();
  const card = (
    <Dialog title="Share" onClose={onClose}>
      <button type="button" id="inside">
        x
      </button>
    </Dialog>
  );
  act(() => render(card, root));
});
afterEach(() => act(() => render(null, root)));

describe("a card over the page", () => {
  it("is named by its title, and counted while it is there", () => {
    const dialog = root.querySelector("dialog")!;
    expect(document.getElementById(dialog.getAttribute("aria-labelledby")!)?.textContent).toBe("Share");
    expect(dialog.open).toBe(true);
    expect(dialogs.value).toBe(1);
    act(() => render(null, root));
    expect(dialogs.value).toBe(0);
  });

  it("is closed by Escape and by its button, and no key goes through it", () => {
    const behind = vi.fn();
    document.body.addEventListener("keydown", behind);
    const inside = document.getElementById("inside")!;
    inside.dispatchEvent(new KeyboardEvent("keydown", { key: "b", bubbles: true }));
    inside.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
    expect(onClose).toHaveBeenCalledOnce();
    root.querySelector<HTMLButtonElement>('[aria-label="Close"]')!.click();
    expect(onClose).toHaveBeenCalledTimes(2);
    expect(behind).not.toHaveBeenCalled();
    document.body.removeEventListener("keydown", behind);
  });

  it("makes room for the password while the page is locked", () => {
    const dialog = root.querySelector("dialog")!;
    act(() => {
      locked.value = true;
    });
    expect(dialog.open).toBe(false);
    act(() => {
      locked.value = false;
    });
    expect(dialog.open).toBe(true);
  });

  it("keeps the focus inside, and gives it back", () => {
    const inside = document.getElementById("inside")!;
    inside.focus();
    inside.dispatchEvent(new KeyboardEvent("keydown", { key: "Tab", bubbles: true, cancelable: true }));
    expect(document.activeElement?.getAttribute("aria-label")).toBe("Close");
    act(() => render(null, root));
    expect(document.activeElement?.id).toBe("before");
  });
});
