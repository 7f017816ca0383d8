import { describe, expect, it } from "vitest";
import { latest, Queue } from "../../src/reading/order";

function later(): { promise: Promise<void>; come: () => void } {
  let come = (): void => {};
  const promise = new Promise<void>((resolve) => {
    come = resolve;
  });
  return { promise, come };
}

describe("a queue", () => {
  it("does one thing at a time, in order, and goes on after what failed", async () => {
    const queue = new Queue();
    const said: string[] = [];
    const gate = later();
    const first = queue.run(async () => {
      await gate.promise;
      said.push("first");
      throw new Error("refused");
    });
    const second = queue.run(async () => {
      said.push("second");
      return 2;
    });
    await Promise.resolve();
    expect(said).toEqual([]);
    gate.come();
    await expect(first).rejects.toThrow("refused");
    expect(await second).toBe(2);
    expect(said).toEqual(["first", "second"]);
    await queue.idle();
  });
  it("begins within the call where nothing is ahead, also once what was ahead is done", async () => {
    const queue = new Queue();
    const said: string[] = [];
    const say = async (word: string) => void said.push(word);
    const first = queue.run(() => say("first"));
    expect(said).toEqual(["first"]);
    void queue.run(() => say("second"));
    expect(said).toEqual(["first"]);
    await first;
    await queue.idle();
    void queue.run(() => say("third"));
    expect(said).toEqual(["first", "second", "third"]);
  });
});

describe("a call of which the latest counts", () => {
  it("is made once more for all who asked while it was under way", async () => {
    const gates = [later(), later()];
    let made = 0;
    const call = latest(async () => {
      made += 1;
      const mine = made;
      await gates[mine - 1]?.promise;
      return mine;
    });
    const first = call();
    const second = call();
    const third = call();
    expect(made).toBe(1);
    gates[0]!.come();
    gates[1]!.come();
    expect(await Promise.all([first, second, third])).toEqual([1, 2, 2]);
    expect(await call()).toBe(3);
  });

  it("is made again after one that failed", async () => {
    let made = 0;
    const call = latest(async () => {
      made += 1;
      if (made === 1) throw new Error("no");
      return made;
    });
    const [first, second] = await Promise.allSettled([call(), call()]);
    expect([first.status, second]).toEqual(["rejected", { status: "fulfilled", value: 2 }]);
  });
});
