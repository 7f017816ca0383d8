import { describe, expect, it } from "vitest";
import { drawnObjects, firstAnswers, offers } from "../../src/panels/exports";
import { FakeReading } from "./fake";

const had = (format: "dicom" | "nifti" | "picture", slices: number, drawn: boolean) =>
  offers({ format }, slices, drawn).flatMap((one) => (one.why === null ? [one.format] : []));

describe("what can be taken home", () => {
  it("is everything of a DICOM case", () => {
    expect(had("dicom", 100, true)).toEqual(["seg", "nifti", "rtstruct", "nrrd", "csv"]);
  });
  it("is no DICOM of a case that is none, and says why", () => {
    expect(had("nifti", 100, true)).toEqual(["nifti", "nrrd", "csv"]);
    const why = offers({ format: "nifti" }, 100, true).filter((one) => one.why !== null);
    expect(why).toEqual([
      { format: "seg", why: "panels.why-dicom" },
      { format: "rtstruct", why: "panels.why-dicom" },
    ]);
  });
  it("is a picture of a single slice too", () => {
    expect(had("picture", 1, true)).toContain("png");
    expect(offers({ format: "nifti" }, 2, true).map((one) => one.format)).not.toContain("png");
  });
  it("is nothing while nothing is drawn, and says so", () => {
    expect(had("dicom", 100, false)).toEqual([]);
    expect(offers({ format: "dicom" }, 100, false)[0]!.why).toBe("panels.why-nothing");
  });
  it("waits for first answers, of all structures", () => {
    const reading = new FakeReading();
    reading.masks.put(1, 3, "first");
    reading.masks.put(1, 4, "refined");
    reading.masks.put(2, 9, "first");
    expect(firstAnswers(reading)).toBe(2);
    expect(drawnObjects(reading)).toBe(2);
  });
});
