import { afterEach, describe, expect, it } from "vitest";
import { speak } from "../../src/i18n";
import { bytes, dicomDay, gridSize, number, percent, personName } from "../../src/shell/format";

afterEach(() => speak("en"));

describe("as readers write it", () => {
  it("a day of DICOM", () => {
    expect(dicomDay("20080918")).toMatch(/^18 Sept? 2008$/);
    speak("ko");
    expect(dicomDay("20080918")).toBe("2008. 9. 18.");
  });

  it("a day that is none stays what it is", () => {
    for (const text of ["", "2008", "20081399", "20080230", "unknown"]) expect(dicomDay(text)).toBe(text);
  });

  it("names, the first script of several", () => {
    expect(personName("Doe^Jane^^Dr.")).toBe("Doe Jane Dr.");
    expect(personName("Hong^Gildong=洪^吉洞=홍^길동")).toBe("Hong Gildong");
    expect(personName("=洪^吉洞")).toBe("洪 吉洞");
    expect(personName("")).toBe("");
  });

  it("sizes: columns, rows, slices; of a picture without slices", () => {
    expect(gridSize([24, 512, 256])).toBe("256 × 512 × 24");
    expect(gridSize([1, 600, 800])).toBe("800 × 600");
  });

  it("bytes and shares", () => {
    expect(bytes(0)).toBe("0 byte");
    expect(bytes(999)).toBe("999 byte");
    expect(bytes(1500)).toBe("2 kB");
    expect(bytes(104_857_600)).toBe("104.9 MB");
    expect(bytes(5e12)).toBe("5,000 GB");
    expect(percent(0.256)).toBe("26%");
    expect(number(12345)).toBe("12,345");
  });
});
