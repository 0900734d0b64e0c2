drop table safe_migrations;
