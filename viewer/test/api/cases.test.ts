import { afterEach, describe, expect, it, vi } from "vitest";
import { type Brought, filesChosen, filesDropped, listCases, openScanOf, uploadFiles } from "../../src/api/cases";
import { ApiError, explain, setCsrf } from "../../src/api/http";
import { offline } from "../../src/state";
import { json, refusal, serve } from "./server";

afterEach(() => {
  vi.unstubAllGlobals();
});

describe("the list of scans", () => {
  it("comes in pages, each from where the last one ended", async () => {
    const page = Array.from({ length: 2 }, (_, number) => ({ id: `c${number}` }));
    const calls = serve((call) => json(call.query.get("after") === null ? page : [page[0]]));
    const first = await listCases({ q: "lung", mine: true, limit: 2 });
    expect([first.cases.length, first.next]).toEqual([2, "c1"]);
    expect((await listCases({ limit: 2 }, first.next)).next).toBeNull();
    expect(Object.fromEntries(calls[0]!.query)).toEqual({ order: "newest", mine: "true", q: "lung", limit: "2" });
    expect(calls[1]!.query.get("after")).toBe("c1");
  });
});

describe("a scan", () => {
  it("is asked for until it has been read", async () => {
    const calls = serve((_, number) => (number < 3 ? json({ state: "loading" }, 202) : json({ axis: "j" })));
    expect((await openScanOf("c")).axis).toBe("j");
    expect(calls.map((call) => `${call.method} ${call.path}`)).toEqual(Array(3).fill("POST /cases/c/open"));
  });

  it("that cannot be read says why", async () => {
    serve(() => refusal(422, "This file ends too early."));
    await expect(openScanOf("c")).rejects.toMatchObject({ status: 422, detail: "This file ends too early." });
  });
});

describe("a grid", () => {
  it("of which half comes is a connection that was lost", async () => {
    serve(() => new Response('{"shape": [20,'));
    await expect(openScanOf("c")).rejects.toMatchObject({ status: 0 });
  });
});

// -- folders that are dropped ----------------------------------------------------------------------------------------

function fileEntry(path: string): FileSystemEntry {
  const name = path.split("/").at(-1)!;
  return {
    isFile: true,
    fullPath: path,
    file: (done: (file: File) => void) => done(new File(["x"], name)),
  } as unknown as FileSystemEntry;
}

/** As a browser has it: some at a time, and none in the end. */
function folderEntry(path: string, entries: FileSystemEntry[]): FileSystemEntry {
  return {
    isFile: false,
    fullPath: path,
    createReader: () => {
      const left = [...entries];
      return { readEntries: (done: (some: FileSystemEntry[]) => void) => done(left.splice(0, 2)) };
    },
  } as unknown as FileSystemEntry;
}

function dropped(...entries: (FileSystemEntry | null)[]): DataTransfer {
  const items = entries.map((entry) => ({ webkitGetAsEntry: () => entry }));
  return { items, files: [new File(["x"], "ct.nii.gz")] } as unknown as DataTransfer;
}

describe("what is dropped", () => {
  it("is every file of every folder, called by its way there", async () => {
    const series = folderEntry(
      "/study/CT",
      ["1", "2", "3"].map((name) => fileEntry(`/study/CT/${name}`)),
    );
    const study = folderEntry("/study", [series, fileEntry("/study/.DS_Store"), fileEntry("/study/notes.txt")]);
    const found = await filesDropped(dropped(study, fileEntry("/us.png")));
    expect(found.map((one) => one.path)).toEqual([
      "study/CT/1",
      "study/CT/2",
      "study/CT/3",
      "study/notes.txt",
      "us.png",
    ]);
  });

  it("is a list of files where the browser knows no folders", async () => {
    expect((await filesDropped(dropped(null))).map((one) => one.path)).toEqual(["ct.nii.gz"]);
  });

  it("is as with a button", () => {
    const file = new File(["x"], "1.dcm");
    Object.defineProperty(file, "webkitRelativePath", { value: "CT/1.dcm" });
    expect(filesChosen([file, new File(["x"], "Thumbs.db")]).map((one) => one.path)).toEqual(["CT/1.dcm"]);
  });
});

// -- uploads ---------------------------------------------------------------------------------------------------------

class FakeCall {
  static last: FakeCall;
  static answer: [number, string] = [201, ""];
  upload: { onprogress?: (event: object) => void; onload?: (event: object) => void } = {};
  headers: Record<string, string> = {};
  form: FormData | null = null;
  status = 0;
  responseText = "";
  onload = (): void => {};
  onerror = (): void => {};
  onabort = (): void => {};
  onloadend = (): void => {};
  constructor() {
    FakeCall.last = this;
  }
  open(): void {}
  setRequestHeader(name: string, value: string): void {
    this.headers[name] = value;
  }
  getResponseHeader(): string | null {
    return null;
  }
  send(form: FormData): void {
    this.form = form;
    this.upload.onprogress?.({ loaded: 1, total: 4 });
  }
  finish(): void {
    this.upload.onload?.({ loaded: 4, total: 4 });
    [this.status, this.responseText] = FakeCall.answer;
    this.onload();
    this.onloadend();
  }
  abort(): void {
    this.onabort();
    this.onloadend();
  }
}

const FILES: Brought[] = [{ file: new File(["abc"], "1.dcm"), path: "CT/1.dcm" }];

describe("an upload", () => {
  it("goes on with the token of a login that was renewed in another tab", async () => {
    vi.stubGlobal("XMLHttpRequest", FakeCall);
    setCsrf("old");
    serve(() => json({ name: "anna", csrf: "new" }));
    FakeCall.answer = [403, JSON.stringify({ detail: "no token" })];
    const upload = uploadFiles(FILES);
    const first = FakeCall.last;
    first.finish();
    await vi.waitFor(() => expect(FakeCall.last).not.toBe(first));
    FakeCall.answer = [201, JSON.stringify({ cases: [], notes: [] })];
    FakeCall.last.finish();
    expect(await upload).toEqual({ cases: [], notes: [] });
    const tokens = [first, FakeCall.last].map((call) => call.headers["X-Medsam-Csrf"]);
    expect(tokens).toEqual(["old", "new"]);
    setCsrf(null);
  });

  it("sends each file under its way, and says how far it is", async () => {
    vi.stubGlobal("XMLHttpRequest", FakeCall);
    FakeCall.answer = [201, JSON.stringify({ cases: [{ id: "c" }], notes: ["1 file was left out"] })];
    const told: unknown[] = [];
    const upload = uploadFiles(FILES, (progress) => told.push(progress));
    FakeCall.last.finish();
    expect((await upload).notes).toEqual(["1 file was left out"]);
    expect((FakeCall.last.form!.get("file") as File).name).toBe("CT/1.dcm");
    expect(told).toEqual([
      { sent: 1, total: 4, reading: false },
      { sent: 4, total: 4, reading: true },
    ]);
  });

  it("says what the server has against it", async () => {
    vi.stubGlobal("XMLHttpRequest", FakeCall);
    FakeCall.answer = [422, JSON.stringify({ detail: "There is no scan in this.", parameters: [] })];
    const upload = uploadFiles(FILES);
    FakeCall.last.finish();
    const failed = (await upload.catch((error: unknown) => error)) as ApiError;
    expect([failed instanceof ApiError, failed.status, failed.detail]).toEqual([
      true,
      422,
      "There is no scan in this.",
    ]);
  });

  it("that breaks off says whether the server is there", async () => {
    vi.stubGlobal("XMLHttpRequest", FakeCall);
    serve(() => json({}));
    const upload = uploadFiles(FILES);
    FakeCall.last.onerror();
    expect(explain(await upload.catch((error: unknown) => error))).toMatch(/broke off/);
    expect(offline.value).toBe(false);
    serve(() => "no connection");
    const other = uploadFiles(FILES);
    FakeCall.last.onerror();
    expect(explain(await other.catch((error: unknown) => error))).toMatch(/does not answer/);
    expect(offline.value).toBe(true);
    offline.value = false;
  });

  it("ends where the reader says so", async () => {
    vi.stubGlobal("XMLHttpRequest", FakeCall);
    const stop = new AbortController();
    const upload = uploadFiles(FILES, () => {}, stop.signal);
    stop.abort();
    await expect(upload).rejects.toMatchObject({ name: "AbortError" });
  });
});
