-- The tables of DTM 1.19 in MySQL 8 or MariaDB 10.6 and later, for coordinators that share a store.
-- Run it once, as a user who may create databases. It changes nothing that is there.
--
-- data is wider than in DTM's own script, which ends at 65,535 bytes. Times are the coordinators' local time: run them
-- all in one time zone (TZ=UTC).

CREATE DATABASE IF NOT EXISTS dtm DEFAULT CHARACTER SET utf8mb4;

CREATE TABLE IF NOT EXISTS dtm.trans_global (
  id                 bigint        NOT NULL AUTO_INCREMENT PRIMARY KEY,
  gid                varchar(128)  NOT NULL,
  trans_type         varchar(45)   NOT NULL,
  status             varchar(12)   NOT NULL,
  query_prepared     varchar(1024) NOT NULL,
  protocol           varchar(45)   NOT NULL,
  create_time        datetime      DEFAULT NULL,
  update_time        datetime      DEFAULT NULL,
  finish_time        datetime      DEFAULT NULL,
  rollback_time      datetime      DEFAULT NULL,
  options            varchar(1024) DEFAULT '',
  custom_data        varchar(1024) DEFAULT '',
  next_cron_interval int           DEFAULT NULL,
  next_cron_time     datetime      DEFAULT NULL,
  owner              varchar(128)  NOT NULL DEFAULT '',
  ext_data           text,
  result             varchar(1024) DEFAULT '',
  rollback_reason    varchar(1024) DEFAULT '',
  UNIQUE KEY gid (gid),
  KEY owner (owner),
  KEY status_next_cron_time (status, next_cron_time)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE IF NOT EXISTS dtm.trans_branch_op (
  id            bigint        NOT NULL AUTO_INCREMENT PRIMARY KEY,
  gid           varchar(128)  NOT NULL,
  url           varchar(1024) NOT NULL,
  data          text,
  bin_data      mediumblob,
  branch_id     varchar(128)  NOT NULL,
  op            varchar(45)   NOT NULL,
  status        varchar(45)   NOT NULL,
  finish_time   datetime      DEFAULT NULL,
  rollback_time datetime      DEFAULT NULL,
  create_time   datetime      DEFAULT NULL,
  update_time   datetime      DEFAULT NULL,
  UNIQUE KEY gid_uniq (gid, branch_id, op)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE IF NOT EXISTS dtm.kv (
  id          bigint       NOT NULL AUTO_INCREMENT PRIMARY KEY,
  cat         varchar(45)  NOT NULL,
  k           varchar(128) NOT NULL,
  v           text,
  version     bigint       DEFAULT 1,
  create_time datetime     DEFAULT NULL,
  update_time datetime     DEFAULT NULL,
  UNIQUE KEY uniq_k (cat, k)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;
