import { expect, it, vi } from "vitest";
import { Ink } from "../../src/view/ink";

function context() {
  const names = ["fill", "stroke", "fillRect", "strokeRect", "fillText", "strokeText", "drawImage", "putImageData"];
  const paints = Object.fromEntries(names.map((name) => [name, vi.fn()]));
  return { ...paints, clearRect: vi.fn(), beginPath: vi.fn() } as unknown as CanvasRenderingContext2D;
}

it("a drawing that paints nothing leaves its canvas empty", () => {
  const paper = context();
  const ink = new Ink(paper);
  expect(ink.renew(9, 9, (one) => one.beginPath())).toBe(false);
  expect(paper.clearRect).not.toHaveBeenCalled();
});

it("one that paints is seen, and is wiped before the next", () => {
  const paper = context();
  const stroked = paper.stroke;
  const ink = new Ink(paper);
  expect(ink.renew(9, 8, (one) => one.stroke())).toBe(true);
  expect(stroked).toHaveBeenCalledOnce();
  expect(ink.renew(9, 8, () => {})).toBe(false);
  expect(paper.clearRect).toHaveBeenCalledExactlyOnceWith(0, 0, 9, 8);
});
