import { signal } from "@preact/signals";
import { expect, it, vi } from "vitest";
import { Layer } from "../../src/view/layer";

function frame(): Promise<void> {
  return new Promise((go) => requestAnimationFrame(() => setTimeout(go)));
}

it("a drawing is painted once a frame, however often what it reads changes, and not at all while nothing does", async () => {
  const [shown, other] = [signal(1), signal(1)];
  const seen: number[] = [];
  const layer = new Layer(() => void seen.push(shown.value));
  layer.touch();
  await frame();
  shown.value = 2;
  shown.value = 3;
  await frame();
  other.value = 2;
  await frame();
  await frame();
  expect(seen).toEqual([1, 3]);
  layer.close();
  shown.value = 4;
  await frame();
  expect(seen).toEqual([1, 3]);
});

it("a drawing follows what it read the last time", async () => {
  const [which, one, two] = [signal("one"), signal(1), signal(1)];
  let painted = 0;
  const layer = new Layer(() => {
    painted += 1;
    void (which.value === "one" ? one.value : two.value);
  });
  layer.touch();
  await frame();
  which.value = "two";
  await frame();
  one.value = 2;
  await frame();
  expect(painted).toBe(2);
  two.value = 2;
  await frame();
  expect(painted).toBe(3);
  layer.close();
});

it("one that fails does not stop the others", async () => {
  const told = vi.fn();
  vi.stubGlobal("reportError", told);
  let painted = false;
  const broken = new Layer(() => {
    throw new Error("broken");
  });
  const whole = new Layer(() => {
    painted = true;
  });
  broken.touch();
  whole.touch();
  await frame();
  expect(painted).toBe(true);
  expect(told).toHaveBeenCalledOnce();
  vi.unstubAllGlobals();
});
