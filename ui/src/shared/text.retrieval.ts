/** The sentences of the retrieval test: see `text.ts`. */

export const RETRIEVAL = {
  navRetrieval: ["検索の確認", "Retrieval test"],
  retrievalTitle: ["検索の確認", "Retrieval test"],
  retrievalLead: [
    "答えを作らずに、どの資料がどの順に見つかり、何が外れたかを示します。あなたが閲覧できる資料だけを探します。",
    "What a search finds, in which order, and what was left out; no answer is made. Only documents you may read.",
  ],
  retrievalDo: ["探す", "Search"],
  retrievalNone: ["見つかりません。語句を変えるか、取り込まれているかを「文書」で確かめてください。", "Nothing was found. Use other words, or see under “Documents” whether it was taken in."],
  retrievalPartial: [
    "閲覧権限をいま確かめられない情報源があり、その文書は探していません。「情報源」で確かめてください。",
    "Who may read one of the sources is not known now, so its documents were not searched. See “Sources”.",
  ],
  retrievalSure: ["根拠の確かさ {relevance}（{threshold} 以上なので、回答を作ります）", "Certainty {relevance}: an answer is made from {threshold} on"],
  retrievalUnsure: ["根拠の確かさ {relevance}（{threshold} に満たないので「資料に見つかりません」と答えます）", "Certainty {relevance}: below {threshold}, so the answer is “not found”"],
  retrievalPlace: ["資料", "Document"],
  retrievalFused: ["総合", "Together"],
  retrievalDense: ["意味の近さ", "Meaning"],
  retrievalKeyword: ["言葉の一致", "Words"],
  retrievalUse: ["扱い", "Use"],
  retrievalUsed: ["使う", "Used"],
  retrievalHint: [
    "利用者の権限で確かめるには、端末で kura search --as 利用者ID --why を使います。",
    "For another person's rights, use kura search --as USER --why on the console.",
  ],
  droppedSuperseded: ["旧版なので使わない", "Superseded"],
  droppedAhead: ["施行前の版なので使わない", "Not yet in force"],
  droppedCopy: ["上と同じ内容", "Same text as above"],
  droppedCrowded: ["同じ資料から多すぎる", "Enough of its document"],
  droppedBeyond: ["件数の外", "Beyond the number asked for"],
} as const satisfies Record<string, readonly [string, string]>;
