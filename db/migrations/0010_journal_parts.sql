-- The parts of the journal: each directory that a process has written to, and its last line. Without it nobody could see that lines at
-- the end of a directory, or the directory itself, are missing.
CREATE TABLE journal_parts (
    id uuid PRIMARY KEY,
    host text NOT NULL,
    directory text NOT NULL,
    last_line bigint NOT NULL,
    last_hash text NOT NULL,
    updated_at timestamptz NOT NULL
);
