/** The sentences of who sees what: see `text.ts`. */

export const SIGHT = {
  sightOpen: ["見えるもの", "What they see"],
  sightOf: ["{name} さんに見えるもの", "What {name} may read"],
  sightDisabled: ["無効なので、何も読めません。", "Disabled, and may read nothing."],
  sightGroups: ["グループ", "Groups"],
  sightNoGroups: ["どのグループにも入っていません。", "In no group."],
  sightSources: ["情報源ごとに読める資料", "Documents they may read, by source"],
  sightCount: ["{documents} 件中 {seen} 件", "{seen} of {documents}"],
  sightWithheld: ["権限を確かめられないため、いま誰にも見えません", "Nobody sees it now: its rights cannot be asked"],
  sightAlso: ["仮に入れてみるグループ", "Suppose they were in"],
  sightAlsoNone: ["（入れてみない）", "(nothing more)"],
  readersShow: ["読める人を調べる", "Who may read it"],
  readersTitle: ["読める人", "Who may read it"],
  readersNone: ["読める人はいません。", "Nobody may read it."],
  readersWay: ["{way} による", "by {way}"],
} as const satisfies Record<string, readonly [string, string]>;
