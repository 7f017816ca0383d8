import { afterEach, describe, expect, it } from "vitest";
import { type Key, language, speak, t } from "../../src/i18n";
import { en } from "../../src/i18n/en";
import { ko } from "../../src/i18n/ko";
import { GROUPS, TASKS } from "../../src/shell/help";

const KEYS = Object.keys(en) as Key[];
const placeholders = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name).sort();

afterEach(() => speak("en"));

describe("texts", () => {
  it("are there in both languages, and none is empty", () => {
    expect(Object.keys(ko).sort()).toEqual([...KEYS].sort());
    for (const key of KEYS) expect(`${key}: ${ko[key].trim()}`).not.toBe(`${key}: `);
  });

  it("ask for the same values", () => {
    for (const key of KEYS) expect([key, ...placeholders(ko[key])]).toEqual([key, ...placeholders(en[key])]);
  });

  it("of the page's frame are Korean in Korean", () => {
    const same = /^(shell\.title|shell\.layout\.volume|annotate\.dice-of|cases\.format\..*)$/;
    for (const key of KEYS) {
      if (/^(shell|cases|annotate)\./.test(key) && !same.test(key)) expect(`${key}: ${ko[key]}`).toMatch(/[가-힣]/);
    }
  });

  it("begin with their room, each in one room alone", () => {
    for (const key of KEYS) expect(key).toMatch(/^(annotate|api|cases|panels|shell|tools|view)\./);
  });

  it("follow the language, and so does the document", () => {
    speak("ko");
    expect(t("shell.close")).toBe("닫기");
    expect(document.documentElement.lang).toBe("ko");
    expect(localStorage.getItem("medsam.language")).toBe("ko");
    speak("en");
    expect(t("shell.close")).toBe("Close");
    expect(document.documentElement.lang).toBe("en");
    expect(language.value).toBe("en");
  });

  it("have values put in, and leave what is not given", () => {
    expect(t("cases.sent", { sent: "1 MB", total: "2 MB" })).toBe("1 MB of 2 MB");
    expect(t("cases.sent", { sent: "1 MB" })).toBe("1 MB of {total}");
  });
});

describe("the card of keys", () => {
  it("has no key twice", () => {
    const keys = [...GROUPS, TASKS].flatMap((group) => group.keys.map(([one]) => one.join("+")));
    expect(new Set(keys).size).toBe(keys.length);
  });
});
