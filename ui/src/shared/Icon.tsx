/** Line drawings, 20 by 20. Decoration only: the words beside them, or the label, carry the meaning. */

const PATHS = {
  plus: "M10 4v12M4 10h12",
  menu: "M3 5.5h14M3 10h14M3 14.5h14",
  close: "M5 5l10 10M15 5L5 15",
  send: "M10 16V4.5M5 9l5-5 5 5",
  stop: "M6 6h8v8H6z",
  dots: "M5 10h.01M10 10h.01M15 10h.01",
  copy: "M7 7V4h9v9h-3M4 7h9v9H4z",
  good: "M6.5 9v7.5H4V9zM6.5 9l3-6c1.4 0 2.2 1 1.9 2.4L11 8h4.2c1 0 1.7.9 1.4 1.9l-1.4 5.3c-.2.8-.9 1.3-1.7 1.3h-7",
  bad: "M13.5 11V3.500H16V11zM13.500 11l-3 6c-1.400 0-2.200-1-1.900-2.400L9 12H4.800c-1 0-1.700-.9-1.400-1.900l1.400-5.300c.2-.8.9-1.300 1.700-1.300h7",
  check: "M4 10.500l4 4 8-9",
  question: "M7.500 7.500a2.500 2.500 0 1 1 3.600 2.200c-.8.400-1.100.9-1.100 1.800M10 14.500h.01",
  warning: "M10 3l7.500 13.500h-15zM10 8v4M10 14.200h.01",
  document: "M5 2.500h6.500l4 4v11H5zM11.500 2.500v4h4",
  folder: "M2.500 5h5.500l1.500 2h8v8.500h-15z",
  person: "M10 10a3.300 3.300 0 1 0 0-6.600 3.300 3.300 0 0 0 0 6.600zM3.500 17c.6-3.300 3.200-5 6.500-5s5.900 1.700 6.500 5",
  upload: "M10 13V4M6 7.500L10 3.500l4 4M4 13v3.500h12V13",
  down: "M5 8l5 5 5-5",
  search: "M9 14.500a5.500 5.500 0 1 0 0-11 5.500 5.500 0 0 0 0 11zM13 13l4 4",
  retry: "M15.500 8A6 6 0 1 0 16 11M16 4v4h-4",
  pencil: "M4 16l.8-3.200L13 4.600l2.400 2.400-8.200 8.200z",
  trash: "M4 6h12M8 6V4h4v2M5.500 6l.7 10.500h7.600L14.500 6",
  eye: "M2.500 10S5 5 10 5s7.500 5 7.500 5-2.500 5-7.500 5-7.500-5-7.500-5zM10 12a2 2 0 1 0 0-4 2 2 0 0 0 0 4z",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg className="icon" viewBox="0 0 20 20" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}
