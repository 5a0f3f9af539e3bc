-- The shop that compose.yaml's MySQL starts with. Change it and watch the topics follow:
--   docker compose -f docker/compose.yaml exec mysql sh -c 'mysql -p"$MYSQL_ROOT_PASSWORD" shop'

GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'ensign'@'%';

USE shop;

CREATE TABLE products (
    id bigint unsigned AUTO_INCREMENT PRIMARY KEY,
    name varchar(100) NOT NULL,
    price decimal(12, 2) NOT NULL,
    tags set('new', 'sale', 'last') NOT NULL DEFAULT '',
    details json,
    changed_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3)
);

CREATE TABLE stock (
    product_id bigint unsigned NOT NULL,
    warehouse enum('north', 'south') NOT NULL,
    pieces int NOT NULL,
    PRIMARY KEY (product_id, warehouse)
);

INSERT INTO products (name, price, tags, details)
WITH RECURSIVE numbers AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM numbers WHERE n < 500)
SELECT concat('Product ', n), n % 90 + 0.99, if(n % 10, '', 'sale'), json_object('weight', n % 7)
FROM numbers;

INSERT INTO stock
SELECT id, 'north', id % 40 FROM products;
