import { afterEach, describe, expect, it, vi } from "vitest";
import { remember, remembered } from "../src/remembered";

afterEach(() => {
  vi.unstubAllGlobals();
  localStorage.clear();
});

describe("how the page was set", () => {
  it("is known again", () => {
    remember("medsam.x", "light");
    expect(remembered("medsam.x")).toBe("light");
    expect(remembered("medsam.y")).toBeNull();
  });

  it("is forgotten by a browser that keeps nothing, and the page begins all the same", async () => {
    const forbidden = () => {
      throw new DOMException("denied", "SecurityError");
    };
    vi.stubGlobal("localStorage", { getItem: forbidden, setItem: forbidden });
    vi.resetModules();
    const [{ theme, turn }, { speak }] = await Promise.all([import("../src/shell/theme"), import("../src/i18n")]);
    await Promise.all([import("../src/tools/preview"), import("../src/view/looking"), import("../src/panels/section")]);
    turn("light");
    speak("ko");
    expect(theme.value).toBe("light");
  });
});
