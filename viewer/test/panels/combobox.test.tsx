import { beforeEach, describe, expect, it, vi } from "vitest";
import { NameBox } from "../../src/panels/combobox";
import { act, mount, press, type } from "./mount";

const TERMS = [
  { name: "lung_left", synonyms: ["left lung"], colour: "#111111" },
  { name: "lung_right", synonyms: ["right lung"], colour: "#222222" },
  { name: "liver", synonyms: ["hepar"], colour: "#333333" },
];
vi.mock("../../src/api/results", () => ({ vocabulary: vi.fn(async () => TERMS) }));

describe("a structure's name", () => {
  let onName: ReturnType<typeof vi.fn<(name: string) => Promise<boolean>>>;
  let onLeave: ReturnType<typeof vi.fn<() => void>>;
  let input: HTMLInputElement;
  let root: HTMLElement;

  async function box(start = "", takesOnLeave = false): Promise<void> {
    root = await mount(
      <NameBox
        label="Name"
        start={start}
        taken={["lung_left"]}
        eager
        takesOnLeave={takesOnLeave}
        onName={onName}
        onLeave={onLeave}
      />,
    );
    input = root.querySelector("input")!;
  }
  const options = () => [...root.querySelectorAll('[role="option"]')].map((one) => one.textContent);
  const chosen = () => root.querySelector('[aria-selected="true"]')?.textContent ?? null;

  beforeEach(() => {
    onName = vi.fn(async () => true);
    onLeave = vi.fn();
  });

  it("is a combobox that has the focus, without a list at first", async () => {
    await box();
    expect(document.activeElement).toBe(input);
    expect(input.getAttribute("role")).toBe("combobox");
    expect(input.getAttribute("aria-expanded")).toBe("false");
  });
  it("offers names that fit, what is there already last", async () => {
    await box();
    await type(input, "lung");
    expect(input.getAttribute("aria-expanded")).toBe("true");
    expect(options()).toEqual(["lung right", "lung left"]);
  });
  it("goes through the list by arrows, and back to the text beyond its ends", async () => {
    await box();
    await type(input, "lung");
    const visited = [];
    for (let step = 0; step < 4; step += 1) {
      await press(input, "ArrowDown");
      visited.push(chosen());
    }
    expect(visited).toEqual(["lung right", "lung left", null, "lung right"]);
    const id = input.getAttribute("aria-activedescendant")!;
    expect(root.querySelector(`[id="${id}"]`)!.textContent).toBe("lung right");
    await press(input, "ArrowUp");
    await press(input, "ArrowUp");
    expect(chosen()).toBe("lung left");
  });
  it("takes what is chosen on Enter, under its name in the vocabulary", async () => {
    await box();
    await type(input, "hep");
    expect(options()).toEqual(["liverhepar"]);
    await press(input, "ArrowDown");
    await press(input, "Enter");
    expect(onName).toHaveBeenCalledExactlyOnceWith("liver");
  });
  it("takes what was typed where nothing is chosen", async () => {
    await box();
    await type(input, " Lung thing ");
    await press(input, "Enter");
    expect(onName).toHaveBeenCalledExactlyOnceWith("Lung thing");
  });
  it("closes the list on Escape, then leaves without a name", async () => {
    await box("old", true);
    await type(input, "lung");
    await press(input, "Escape");
    expect(input.getAttribute("aria-expanded")).toBe("false");
    expect(onLeave).not.toHaveBeenCalled();
    await press(input, "Escape");
    await act(() => input.blur());
    expect(onLeave).toHaveBeenCalledOnce();
    expect(onName).not.toHaveBeenCalled();
  });
  it("takes a new name when a field that renames is left, and none that is the same", async () => {
    await box("old", true);
    await type(input, "new");
    await act(() => input.blur());
    expect(onName).toHaveBeenCalledExactlyOnceWith("new");
  });
  it("is left alone by Enter without a name, and by keys of a syllable that is being composed", async () => {
    await box();
    await act(() => {
      input.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", isComposing: true, bubbles: true }));
      input.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", keyCode: 229, bubbles: true }));
    });
    expect(onLeave).not.toHaveBeenCalled();
    await press(input, "Enter");
    expect(onLeave).toHaveBeenCalledOnce();
    expect(onName).not.toHaveBeenCalled();
  });
  it("stays as it is where the name was not taken", async () => {
    onName.mockResolvedValue(false);
    await box();
    await type(input, "liver");
    await press(input, "Enter");
    await press(input, "Enter");
    expect(input.value).toBe("liver");
    expect(onName).toHaveBeenCalledTimes(2);
  });
});
