import { afterEach, describe, expect, it } from "vitest";
import { followAddress, go, hashOf, routeOf } from "../../src/shell/routing";
import { route } from "../../src/state";

describe("an address", () => {
  it.each([
    ["", { page: "cases" }],
    ["#/", { page: "cases" }],
    ["#/case/", { page: "cases" }],
    ["#/case/3m0Vh1dG9bYq_x-z", { page: "case", id: "3m0Vh1dG9bYq_x-z" }],
    ["#/case/abc/", { page: "case", id: "abc" }],
    ["#/case/abc/def", { page: "case", id: "abc", session: "def" }],
    ["#/case/abc/def/ghi", { page: "cases" }],
    ["#/task/abc", { page: "task", id: "abc" }],
    ["#/task/abc/def", { page: "cases" }],
    ["#/look/abc/def", { page: "look", id: "abc", beside: "def" }],
    ["#/review", { page: "review" }],
    ["#/statistics/", { page: "statistics" }],
    ["#/reviews", { page: "cases" }],
    ["#/case/../me", { page: "cases" }],
    ["#/case/a%2Fb", { page: "cases" }],
    [`#/case/${"a".repeat(65)}`, { page: "cases" }],
  ])("%s is %o", (hash, expected) => {
    expect(routeOf(hash)).toEqual(expected);
  });

  it("leads back to where it came from", () => {
    for (const hash of [
      "#/",
      "#/case/abc",
      "#/case/abc/def",
      "#/task/a",
      "#/look/a",
      "#/look/a/b",
      "#/review",
      "#/statistics",
    ])
      expect(hashOf(routeOf(hash))).toBe(hash);
  });
});

describe("going", () => {
  let stop = () => {};
  afterEach(() => {
    stop();
    location.hash = "";
  });

  it("changes the address and the page", () => {
    stop = followAddress();
    go({ page: "case", id: "abc" });
    expect(location.hash).toBe("#/case/abc");
    expect(route.value).toEqual({ page: "case", id: "abc" });
  });

  it("is followed when the address changes by itself, as the back button does", () => {
    stop = followAddress();
    go({ page: "case", id: "abc" });
    location.hash = "#/";
    window.dispatchEvent(new Event("hashchange"));
    expect(route.value).toEqual({ page: "cases" });
  });

  it("to where one is keeps the route, so that nothing opens twice", () => {
    stop = followAddress();
    go({ page: "case", id: "abc" });
    const before = route.value;
    go({ page: "case", id: "abc" });
    expect(route.value).toBe(before);
  });

  it("elsewhere waits for what the reader says, and stays where it was where they stay", async () => {
    route.value = { page: "case", id: "abc" };
    location.hash = "#/case/abc";
    const says: ((may: boolean) => void)[] = [];
    stop = followAddress(() => new Promise((resolve) => says.push(resolve)));
    location.hash = "#/";
    window.dispatchEvent(new Event("hashchange"));
    window.dispatchEvent(new Event("hashchange"));
    expect([route.value.page, says.length]).toEqual(["case", 1]);
    says[0]!(false);
    await Promise.resolve();
    expect([route.value.page, location.hash]).toEqual(["case", "#/case/abc"]);
    go({ page: "cases" });
    says[1]!(true);
    await Promise.resolve();
    expect(route.value).toEqual({ page: "cases" });
  });
});
