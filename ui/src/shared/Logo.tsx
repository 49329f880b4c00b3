/** A storehouse, and its name. */
export function Logo() {
  return (
    <span className="logo">
      <svg viewBox="0 0 32 32" aria-hidden="true" focusable="false">
        <path d="M16 3 2.5 11.500v3h27v-3z" />
        <path d="M5 16.500h22V29h-7v-8h-8v8H5z" />
      </svg>
      <span className="logoName">
        蔵<span className="logoLatin">Kura</span>
      </span>
    </span>
  );
}
