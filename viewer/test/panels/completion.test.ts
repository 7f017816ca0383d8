import { describe, expect, it } from "vitest";
import { complete, type Term } from "../../src/panels/completion";

const term = (name: string, ...synonyms: string[]): Term => ({ name, synonyms, colour: null });
const TERMS = [
  term("liver_tumor", "hepatic tumour"),
  term("kidney_right", "right kidney", "rk"),
  term("kidney_left", "left kidney", "lk"),
  term("kidney_cyst_left"),
  term("liver", "hepar"),
  term("small_bowel", "bowel small"),
];
const names = (typed: string, taken: string[] = []) => complete(TERMS, typed, taken).map((one) => one.term.name);

describe("completion of a structure's name", () => {
  it("puts the same before what begins so, and short before long", () => {
    expect(names("liver")).toEqual(["liver", "liver_tumor"]);
    expect(names("kid")).toEqual(["kidney_left", "kidney_right", "kidney_cyst_left"]);
  });
  it("reads words in any order and whatever is between them", () => {
    expect(names("left kid")).toEqual(["kidney_left", "kidney_cyst_left"]);
    expect(names("Kidney-Right")).toEqual(["kidney_right"]);
  });
  it("finds synonyms, and says which one fits", () => {
    expect(complete(TERMS, "hepa")).toEqual([
      { term: TERMS[4], through: "hepar" },
      { term: TERMS[0], through: "hepatic tumour" },
    ]);
    expect(complete(TERMS, "rk")[0]).toEqual({ term: TERMS[1], through: "rk" });
  });
  it("says no synonym where the name itself fits", () => {
    expect(complete(TERMS, "kidney")[0]!.through).toBeNull();
  });
  it("finds what is inside a word from three letters on", () => {
    expect(names("owel")).toEqual(["small_bowel"]);
    expect(names("we")).toEqual([]);
  });
  it("puts what the reading has already last", () => {
    expect(names("liver", ["liver"])).toEqual(["liver_tumor", "liver"]);
  });
  it("is empty for nothing typed, and no longer than asked for", () => {
    expect(names("  ")).toEqual([]);
    expect(complete(TERMS, "kidney", [], 2)).toHaveLength(2);
  });
});
