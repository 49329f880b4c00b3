import { createContext, useContext, useEffect, useMemo, useState, type ReactNode } from "react";
import { sayIn, type Language, type Say } from "./text";

const KEY = "kura.language";

interface Spoken {
  language: Language;
  setLanguage: (language: Language) => void;
  say: Say;
}

const Context = createContext<Spoken | null>(null);

function remembered(): Language {
  try {
    const value = localStorage.getItem(KEY);
    if (value === "ja" || value === "en") return value;
  } catch {
    // storage may be forbidden; the default serves
  }
  return "ja";
}

export function LanguageProvider({ children }: { children: ReactNode }) {
  const [language, setLanguage] = useState<Language>(remembered);
  useEffect(() => {
    document.documentElement.lang = language;
    try {
      localStorage.setItem(KEY, language);
    } catch {
      // only forgotten at the next visit
    }
  }, [language]);
  const value = useMemo(() => ({ language, setLanguage, say: sayIn(language) }), [language]);
  return <Context value={value}>{children}</Context>;
}

export function useLanguage(): Spoken {
  const value = useContext(Context);
  if (!value) throw new Error("no LanguageProvider");
  return value;
}

export const useSay = (): Say => useLanguage().say;
