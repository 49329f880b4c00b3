import { useLanguage } from "./language";

export function LanguageSwitch() {
  const { language, setLanguage, say } = useLanguage();
  return (
    <div className="languageSwitch" role="group" aria-label={say("language")}>
      <button type="button" lang="ja" aria-pressed={language === "ja"} onClick={() => setLanguage("ja")}>
        日本語
      </button>
      <button type="button" lang="en" aria-pressed={language === "en"} onClick={() => setLanguage("en")}>
        English
      </button>
    </div>
  );
}
