import { beforeEach, describe, expect, it, vi } from "vitest";
import { ApiError } from "../../src/api/http";
import { speak } from "../../src/i18n";
import { NotTaken, untaken } from "../../src/reading/untaken";
import { tell, tellWhoCame } from "../../src/shell/tell";
import { messages } from "../../src/state";

beforeEach(() => {
  speak("en");
  messages.value = [];
});

function texts(): string[] {
  return messages.value.map((one) => one.text);
}

describe("a step that was not taken", () => {
  it("is said, and can be taken again; several are one message, and go in their order", async () => {
    const went: number[] = [];
    for (const number of [1, 2]) tell(new NotTaken(new ApiError(0, ""), async () => went.push(number)));
    expect(texts()).toEqual(["Steps that did not arrive: 2. Repeat them here, or draw again."]);
    messages.value[0]!.action!.run();
    expect(went).toEqual([1, 2]);
  });

  it("begins a message of its own once the one before was answered", () => {
    tell(new NotTaken(new ApiError(0, ""), async () => {}));
    messages.value = [];
    tell(new NotTaken(new ApiError(0, ""), async () => {}));
    expect(texts()).toEqual(["Steps that did not arrive: 1. Repeat them here, or draw again."]);
  });

  it("says why where the server did", () => {
    tell(new NotTaken(new ApiError(503, "It was not stored."), async () => {}));
    expect(texts()[0]).toContain("It was not stored.");
    expect(messages.value[0]!.action?.text).toBe("Repeat");
  });

  it("is looked for by the reader where nobody knows what came of it", () => {
    tell(untaken(new ApiError(0, "lost")));
    tell(untaken(new DOMException("left", "AbortError")));
    expect(texts()).toEqual([expect.stringContaining("may not have arrived")]);
    const retry = vi.fn();
    tell(untaken(new ApiError(0, "lost")), retry);
    messages.value[0]!.action!.run();
    expect(retry).toHaveBeenCalledOnce();
  });

  it("because the login had ended is said to the same reader once they are back", () => {
    tellWhoCame("anna");
    tell(untaken(new ApiError(401, "")));
    tellWhoCame(null);
    expect(texts()).toEqual([]);
    tellWhoCame("anna");
    expect(texts()).toEqual([expect.stringContaining("login ended before your last step")]);
    messages.value = [];
    tell(untaken(new ApiError(401, "")));
    tellWhoCame("ben");
    tellWhoCame("anna");
    expect(texts()).toEqual([]);
  });
});
