// A component on the page, for as long as a test.

import { type ComponentChild, render } from "preact";
import { act } from "preact/test-utils";
import { afterEach } from "vitest";

const mounted: HTMLElement[] = [];

export async function mount(what: ComponentChild): Promise<HTMLElement> {
  const root = document.createElement("div");
  document.body.append(root);
  mounted.push(root);
  await act(() => render(what, root));
  return root;
}

afterEach(async () => {
  for (const root of mounted.splice(0)) {
    await act(() => render(null, root));
    root.remove();
  }
});

export { act };

export async function press(element: Element, key: string): Promise<void> {
  await act(() => {
    element.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  });
}

/** Types a text, and waits until the vocabulary has been asked. */
export async function type(input: HTMLInputElement, text: string): Promise<void> {
  await act(() => {
    input.value = text;
    input.dispatchEvent(new InputEvent("input", { bubbles: true }));
  });
  await act(() => new Promise((resolve) => setTimeout(resolve, 160)));
}

export async function click(element: Element | null | undefined): Promise<void> {
  await act(async () => {
    (element as HTMLElement).click();
  });
}

export function button(root: Element, text: string): HTMLButtonElement {
  const all = [...root.querySelectorAll("button")];
  const found = all.find((one) => (one.getAttribute("aria-label") ?? one.textContent ?? "").trim().startsWith(text));
  if (!found) throw new Error(`no button "${text}" among ${all.map((one) => one.textContent).join(" | ")}`);
  return found;
}
