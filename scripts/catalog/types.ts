/** What a role may do with an object; columns are named when the right is for these alone. */
export interface Grant {
  role: string;
  privilege: string;
  columns: string[] | null;
}

export interface Column {
  name: string;
  type: string;
  nullable: boolean;
  default: string | null;
  /** "always" or "by default" for an identity column, "stored" for a computed one. */
  generated: "always" | "by default" | "stored" | null;
  comment: string | null;
}

export interface Policy {
  name: string;
  command: string;
  permissive: boolean;
  roles: string[];
  using: string | null;
  check: string | null;
}

export interface Constraint {
  name: string;
  type: "primary key" | "unique" | "foreign key" | "check" | "exclusion";
  columns: string[];
  definition: string;
  /** Of a foreign key: what it points at. */
  references: { table: string; columns: string[] } | null;
}

export interface Index {
  name: string;
  definition: string;
  /** Leading plain columns; an expression ends the list. */
  columns: string[];
  unique: boolean;
  /** Of a partial index. */
  predicate: string | null;
  /** Made by a primary key, unique or exclusion constraint. */
  ofConstraint: boolean;
}

export interface Relation {
  schema: string;
  name: string;
  kind: "table" | "partitioned table" | "view" | "materialized view";
  comment: string | null;
  rowSecurity: boolean;
  securityInvoker: boolean;
  isPartition: boolean;
  columns: Column[];
  constraints: Constraint[];
  indexes: Index[];
  policies: Policy[];
  grants: Grant[];
  triggers: { name: string; definition: string }[];
}

export interface Routine {
  schema: string;
  name: string;
  /** Types of the arguments, which tell overloads apart. */
  identity: string;
  arguments: string;
  returns: string;
  comment: string | null;
  definer: boolean;
  volatility: "immutable" | "stable" | "volatile";
  isTrigger: boolean;
  settings: string[];
  source: string;
  grants: Grant[];
}

export interface Schema {
  name: string;
  comment: string | null;
  grants: Grant[];
  relations: Relation[];
  routines: Routine[];
}
