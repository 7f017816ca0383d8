import { afterEach, describe, expect, it, vi } from "vitest";
import { compare } from "../../src/api/results";
import { tell } from "../../src/shell/tell";
import { messages, offline } from "../../src/state";
import { json, serve } from "./server";

afterEach(() => {
  offline.value = false;
  messages.value = [];
  vi.unstubAllGlobals();
});

describe("a file to compare with", () => {
  it("that the server takes no more of is said to be too much, and not that the server is gone", async () => {
    serve((call) => (call.path === "/health/live" ? json({}) : "closed while bytes still came"));
    const failed = await compare("s", new File(["labels"], "other.nii.gz")).catch((error: unknown) => error);
    tell(failed);
    expect(messages.value.map((one) => one.text)).toEqual([expect.stringContaining("The upload broke off.")]);
  });
});
