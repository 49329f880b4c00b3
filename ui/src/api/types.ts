import type { components } from "./schema";

/** The API's nouns by the names the screens use. */

type Schemas = components["schemas"];

export type User = Schemas["User"];
export type SignedIn = Schemas["SignedIn"];
export type Health = Schemas["Health"];
export type Answer = Schemas["Answer"];
export type Begun = Schemas["Begun"];
export type Message = Schemas["Message"];
export type Citation = Schemas["Citation"];
export type AnyCitation = Citation | Schemas["WithdrawnCitation"];
export type Passage = Schemas["Passage"];
export type AnyPassage = Passage | Schemas["WithdrawnPassage"];
export type Version = Schemas["Version"];
export type Filter = Required<Schemas["Filter"]>;
export type Pointer = Schemas["Pointer"];
export type Statement = Schemas["Statement"];
export type Summary = Schemas["Summary"];
export type Conversation = Schemas["Conversation"];
export type Document = Schemas["Document"];
export type Metadata = Document["metadata"];
export type About = Schemas["About"];
export type DocumentPart = Schemas["TextPart"];
export type PageTexts = Schemas["Texts"];
export type PlaceBox = Schemas["Box"];
export type PageState = Schemas["PageState"];
export type Upload = Schemas["Upload"];
export type Source = Schemas["Source"];
export type Run = Schemas["Run"];
export type Outcome = Schemas["Outcome"];
export type Connector = Schemas["Connector"];
export type Listed = Schemas["Listed"];
export type Account = Schemas["Account"];
export type Group = Schemas["Group"];
export type Directory = Schemas["Directory"];
export type Entry = Schemas["Entry"];
export type Key = Schemas["Key"];
export type IssuedKey = Schemas["IssuedKey"];
export type Synonyms = Schemas["Synonyms"];
export type Alerts = Schemas["Alerts"];
export type Destinations = Schemas["Destinations"];
export type Status = Schemas["Status"];
export type Weighed = Schemas["Weighed"];
export type Considered = Schemas["Considered"];
