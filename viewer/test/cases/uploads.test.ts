import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Brought } from "../../src/api/cases";
import type { CaseInfo } from "../../src/api/types";
import { messages, route } from "../../src/state";

const calls: {
  files: readonly Brought[];
  told: (progress: { sent: number; total: number; reading: boolean }) => void;
  signal: AbortSignal;
  done: (cases: Partial<CaseInfo>[], notes?: string[]) => void;
}[] = [];

vi.mock("../../src/api/cases", async (original) => ({
  ...(await original<typeof import("../../src/api/cases")>()),
  listCases: vi.fn(async () => ({ cases: [], next: null })),
  uploadFiles: vi.fn(
    (files, told, signal) =>
      new Promise((resolve, reject) => {
        signal.addEventListener("abort", () => reject(new DOMException("", "AbortError")));
        calls.push({ files, told, signal, done: (cases, notes = []) => resolve({ cases, notes }) });
      }),
  ),
}));

const { arrived, bring, stopUploads, uploading } = await import("../../src/cases/uploads");

const file = (name: string, size = 10): Brought => ({ file: new File(["x".repeat(size)], name), path: name });
const settle = () => new Promise((resolve) => setTimeout(resolve));
const texts = () => messages.value.map((one) => one.text);

beforeEach(() => {
  calls.length = 0;
  messages.value = [];
  arrived.value = new Set();
  route.value = { page: "cases" };
  location.hash = "#/";
});
afterEach(() => {
  stopUploads();
});

describe("files that are brought", () => {
  it("say how far they are", async () => {
    void bring([file("a", 30), file("b", 70)]);
    await settle();
    expect(uploading.value).toMatchObject({ files: 2, sent: 0, total: 100, waiting: 0 });
    calls[0]!.told({ sent: 50, total: 100, reading: false });
    expect(uploading.value).toMatchObject({ sent: 50 });
    calls[0]!.done([{ id: "a" }, { id: "b" }]);
    await settle();
    expect(uploading.value).toBeNull();
    expect([...arrived.value]).toEqual(["a", "b"]);
    expect(texts()).toEqual(["2 scans are there: choose one."]);
  });

  it("that are one scan are opened", async () => {
    void bring([file("a")]);
    await settle();
    calls[0]!.done([{ id: "one" }]);
    await settle();
    expect(route.value).toEqual({ page: "case", id: "one" });
  });

  it("do not take a reader away from another scan", async () => {
    void bring([file("a")]);
    await settle();
    location.hash = "#/case/other";
    route.value = { page: "case", id: "other" };
    calls[0]!.done([{ id: "one" }]);
    await settle();
    expect(route.value).toEqual({ page: "case", id: "other" });
    expect(texts()).toEqual(["The scan is there."]);
  });

  it("wait behind those that are on their way", async () => {
    void bring([file("a")]);
    await settle();
    void bring([file("b"), file("c")]);
    await settle();
    expect(calls.length).toBe(1);
    expect(uploading.value).toMatchObject({ files: 1, waiting: 2 });
    calls[0]!.done([{ id: "a" }]);
    await settle();
    expect(calls.length).toBe(2);
    expect(route.value).toEqual({ page: "cases" });
  });

  it("can be stopped, those that wait too", async () => {
    void bring([file("a")]);
    await settle();
    void bring([file("b")]);
    await settle();
    stopUploads();
    await settle();
    expect(calls[0]!.signal.aborted).toBe(true);
    expect(calls.length).toBe(1);
    expect(uploading.value).toBeNull();
    expect(texts()).toEqual(["The upload was stopped; nothing of it was kept."]);
  });

  it("that are none are said to be none", async () => {
    await bring([]);
    expect(calls.length).toBe(0);
    expect(texts()[0]).toContain("no file");
  });

  it("that cannot be read are said so", async () => {
    await bring(Promise.reject(new Error("gone")));
    expect(texts()[0]).toContain("could not read");
  });

  it("have what was left out of them said", async () => {
    void bring([file("a")]);
    await settle();
    calls[0]!.done([{ id: "a" }, { id: "b" }], ["notes.txt is no scan"]);
    await settle();
    expect(texts()).toContain("This was left out:\nnotes.txt is no scan");
  });
});
