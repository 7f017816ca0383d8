import { describe, expect, it } from "vitest";
import { meanAndSpread, millilitres, millimetres, share, spoken } from "../../src/panels/format";

describe("measurements", () => {
  it("have the digits they are worth", () => {
    expect(millilitres(0.4234)).toBe("0.42");
    expect(millilitres(7.77)).toBe("7.8");
    expect(millilitres(1523.4)).toBe("1,523");
    expect(millilitres(0)).toBe("0.00");
    expect(millimetres(34.249)).toBe("34.2");
  });
  it("round a mean as its spread allows", () => {
    expect(meanAndSpread(52.3, 14.2)).toBe("52 ± 14");
    expect(meanAndSpread(-723.8, 101.9)).toBe("−724 ± 102");
    expect(meanAndSpread(5.123, 2.456)).toBe("5.1 ± 2.5");
    expect(meanAndSpread(0.3141, 0.0812)).toBe("0.314 ± 0.081");
    expect(meanAndSpread(7, 0)).toBe("7.0 ± 0.0");
    expect(meanAndSpread(-0.2, 12)).toBe("0 ± 12");
  });
  it("say shares", () => {
    expect(share(0.91234)).toBe("0.912");
    expect(share(1)).toBe("1.000");
    expect(share(0.99999)).toBe("0.999");
    expect(share(null)).toBe("–");
  });
  it("read names aloud", () => {
    expect(spoken("kidney_right")).toBe("kidney right");
  });
});
