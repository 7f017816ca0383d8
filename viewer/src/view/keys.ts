// Keys of the picture.

import type { Axis } from "../api/types";
import { letterOf } from "../panels/letter";
import { onSlice } from "../scan/scan";
import { cursor, scan } from "../state";
import { cameras, fitAll, mainAxis, moving, preset, running, scroll, smooth } from "./looking";
import { stageOf } from "./plane";

const PAGE = 10;

/** True when the key was meant for the picture. */
export function onKey(event: KeyboardEvent): boolean {
  const geometry = scan.peek()?.geometry;
  if (!geometry || event.ctrlKey || event.metaKey || event.altKey) return false;
  const axis = mainAxis(geometry);
  switch (event.key) {
    case "ArrowDown":
      scroll(axis, 1);
      return true;
    case "ArrowUp":
      scroll(axis, -1);
      return true;
    case "PageDown":
      scroll(axis, PAGE);
      return true;
    case "PageUp":
      scroll(axis, -PAGE);
      return true;
    case "Home":
      scroll(axis, -geometry.planes[axis].count);
      return true;
    case "End":
      scroll(axis, geometry.planes[axis].count);
      return true;
    case "+":
    case "=":
      return zoom(axis, 1.25);
    case "-":
      return zoom(axis, 0.8);
    case " ":
      return hold();
  }
  if (/^Digit[1-9]$/.test(event.code) && !event.shiftKey) return preset(Number(event.code.at(-1)) - 1);
  switch (letterOf(event)) {
    case "f":
      fitAll();
      return true;
    case "c":
      running.value = !running.peek() && geometry.planes[axis].count > 1;
      return true;
    case "i":
      smooth.value = !smooth.peek();
      return true;
    default:
      return false;
  }
}

/** Around the crosshair, where it is on the plane. */
function zoom(axis: Axis, factor: number): boolean {
  const frame = stageOf(axis);
  if (!frame) return false;
  const [x, y] = frame.toScreen(...onSlice(axis, cursor.peek()));
  const seen = x >= 0 && y >= 0 && x <= frame.width && y <= frame.height;
  cameras[axis].value = seen ? frame.zoomed(factor, x, y) : frame.zoomed(factor, frame.width / 2, frame.height / 2);
  return true;
}

/** While the key is down the left button moves the picture. */
function hold(): boolean {
  if (document.activeElement?.closest("button, a, select, summary, [role=button]")) return false;
  if (!moving.peek()) {
    moving.value = true;
    const release = (event: Event) => {
      if (event instanceof KeyboardEvent && event.key !== " ") return;
      moving.value = false;
      window.removeEventListener("keyup", release);
      window.removeEventListener("blur", release);
    };
    window.addEventListener("keyup", release);
    window.addEventListener("blur", release);
  }
  return true;
}
