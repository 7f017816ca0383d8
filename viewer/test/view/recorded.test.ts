import { describe, expect, it } from "vitest";
import { recorded } from "../../src/view/recorded";
import { contextOf } from "./canvas";

const PLANE = { width: 300, height: 200 };

function areaOf(draw: (context: CanvasRenderingContext2D) => void) {
  const found = recorded("it", draw, contextOf([]), PLANE);
  return found && Object.values(found.area);
}

describe("a drawing that is written down", () => {
  it("reaches as far as its lines, with their width", () => {
    const lines = (context: CanvasRenderingContext2D): void => {
      context.beginPath();
      context.moveTo(20, 30);
      context.lineTo(10, 50);
      context.lineWidth = 3;
      context.stroke();
    };
    expect(areaOf(lines)).toEqual([7, 27, 23, 53]);
  });

  it("reaches as far as what is filled, and its words", () => {
    expect(areaOf((context) => context.fillRect(20, 30, -5, 10))).toEqual([15, 30, 20, 40]);
    expect(areaOf((context) => context.fillText("four", 50, 60))).toEqual([49, 44, 75, 76]);
    const centred = (context: CanvasRenderingContext2D): void => {
      context.textAlign = "center";
      context.fillText("four", 50, 60);
    };
    expect(areaOf(centred)).toEqual([37, 44, 63, 76]);
  });

  it("is taken to reach anywhere by what is not known", () => {
    expect(areaOf((context) => context.clearRect(0, 0, 1, 1))).toEqual([0, 0, 300, 200]);
  });

  it("is nothing where no line is drawn", () => {
    const nothing = (context: CanvasRenderingContext2D): void => {
      context.save();
      context.beginPath();
      context.fill();
      context.moveTo(1, 2);
      context.restore();
    };
    expect(areaOf(nothing)).toBeNull();
  });

  it("has the width of lines again that it had before it was put back", () => {
    const lines = (context: CanvasRenderingContext2D): void => {
      context.save();
      context.lineWidth = 30;
      context.restore();
      context.rect(10, 10, 5, 5);
      context.stroke();
    };
    expect(areaOf(lines)).toEqual([9, 9, 16, 16]);
  });

  it("is painted as it was drawn, and of equal calls is equal", () => {
    const dashed = (context: CanvasRenderingContext2D): void => {
      context.setLineDash([2, 4]);
      context.strokeStyle = "#fff";
      context.rect(1, 2, 3, 4);
      context.stroke();
    };
    const calls: string[] = [];
    const [one, other] = [0, 1].map(() => recorded("it", dashed, contextOf([]), PLANE)!);
    const context = contextOf(calls);
    one!.paint(context);
    expect(calls).toEqual(["save", "setLineDash {}", "rect 1 2 3 4", "stroke", "restore"]);
    expect(context.strokeStyle).toBe("#fff");
    expect(one!.of).toEqual(other!.of);
  });
});
