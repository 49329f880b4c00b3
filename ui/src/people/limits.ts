/** The server decides; saying it before sending saves a round. */
export const SHORTEST_PASSWORD = 10;
