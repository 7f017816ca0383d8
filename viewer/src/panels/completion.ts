// Names of structures that fit what was typed: the likeliest first.

export interface Term {
  readonly name: string;
  readonly synonyms: readonly string[];
  readonly colour: string | null;
}

export interface Match {
  readonly term: Term;
  /** The synonym that fits, where the name does not. */
  readonly through: string | null;
}

function plain(text: string): string {
  return text
    .normalize("NFKC")
    .toLowerCase()
    .replace(/[\s_\-.,]+/g, " ")
    .trim();
}

/** 0 the same, 1 it begins so, 2 its words do, in any order, 3 it is somewhere inside; null: does not fit. */
function nearness(typed: string, text: string): number | null {
  const candidate = plain(text);
  if (candidate === typed) return 0;
  if (candidate.startsWith(typed)) return 1;
  const words = candidate.split(" ");
  if (typed.split(" ").every((part) => words.some((word) => word.startsWith(part)))) return 2;
  return typed.length >= 3 && candidate.includes(typed) ? 3 : null;
}

interface Ranked extends Match {
  rank: number;
}

function ranked(typed: string, term: Term): Ranked | null {
  const own = nearness(typed, term.name);
  let best: Ranked | null = own === null ? null : { term, through: null, rank: own * 2 };
  for (const synonym of term.synonyms) {
    const other = nearness(typed, synonym);
    // of the same fit, a name comes before a synonym
    if (other !== null && (best === null || other * 2 + 1 < best.rank))
      best = { term, through: synonym, rank: other * 2 + 1 };
  }
  return best;
}

/**
 * At most `limit` terms for what was typed: same before beginning before words before inside, names before synonyms, short
 * before long. What the reading has already (`taken`) comes last; the server's order decides the rest.
 */
export function complete(terms: readonly Term[], typed: string, taken: readonly string[] = [], limit = 8): Match[] {
  const wanted = plain(typed);
  if (!wanted) return [];
  const had = new Set(taken.map(plain));
  return terms
    .map((term) => ranked(wanted, term))
    .filter((one) => one !== null)
    .sort(
      (a, b) =>
        Number(had.has(plain(a.term.name))) - Number(had.has(plain(b.term.name))) ||
        a.rank - b.rank ||
        a.term.name.length - b.term.name.length,
    )
    .slice(0, limit)
    .map(({ term, through }) => ({ term, through }));
}
