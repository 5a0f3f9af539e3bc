-- The shop that compose.yaml starts with. Change it in psql and watch the topics follow:
--   docker compose -f docker/compose.yaml exec postgres psql -U ensign shop

CREATE TABLE customers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    email text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES customers,
    status text NOT NULL DEFAULT 'new' CHECK (status IN ('new', 'paid', 'shipped', 'cancelled')),
    total numeric(12, 2) NOT NULL CHECK (total >= 0),
    details jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX orders_by_customer ON orders (customer_id);

INSERT INTO customers (name, email)
SELECT 'Customer ' || n, 'customer' || n || '@shop.example'
FROM generate_series(1, 100) AS n;

INSERT INTO orders (customer_id, status, total, details)
SELECT
    1 + n % 100,
    (ARRAY['new', 'paid', 'shipped', 'cancelled'])[1 + n % 4],
    (n % 500) + 0.99,
    jsonb_build_object('items', 1 + n % 5)
FROM generate_series(1, 1000) AS n;
