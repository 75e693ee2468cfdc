-- The server processes that are running, so that one which stops knows whether another one can take its calls.

CREATE TABLE processes (
    id uuid PRIMARY KEY,
    seen_at timestamptz NOT NULL DEFAULT now(),
    draining boolean NOT NULL DEFAULT false
);
