import { describe, expect, it } from "vitest";
import { dayRange, keysOf, nameKey } from "../../src/cases/pacs-query";

describe("what a PACS is asked", () => {
  it("days from and to, either open", () => {
    expect(dayRange("2029-01-02", "2029-03-04")).toBe("20290102-20290304");
    expect(dayRange("2029-01-02", "")).toBe("20290102-");
    expect(dayRange("", "2029-03-04")).toBe("-20290304");
    expect(dayRange("", "")).toBe("");
  });

  it("names by their beginning, or as their wildcards say", () => {
    expect(nameKey(" Hong ")).toBe("Hong*");
    expect(nameKey("*gildong")).toBe("*gildong");
    expect(nameKey("Ho?g")).toBe("Ho?g");
    expect(nameKey(" ")).toBe("");
  });

  it("the keys of the form", () => {
    const given = new FormData();
    for (const [name, value] of [
      ["id", " 12 "],
      ["name", "Doe"],
      ["from", "2029-01-02"],
      ["to", ""],
      ["modality", "ct "],
    ] as const) {
      given.set(name, value);
    }
    expect(keysOf(given)).toEqual({ patient_id: "12", patient_name: "Doe*", date: "20290102-", modality: "CT" });
  });
});
