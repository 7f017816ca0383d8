-- A store as revision 0001 of the tables wrote it. Never made anew: it stands for those that are out there.
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE audit (
	id INTEGER NOT NULL, 
	at VARCHAR(32) NOT NULL, 
	user_id INTEGER, 
	user VARCHAR, 
	what VARCHAR NOT NULL, 
	"case" VARCHAR, 
	reading VARCHAR, 
	address VARCHAR, 
	details JSON NOT NULL, 
	CONSTRAINT pk_audit PRIMARY KEY (id), 
	CONSTRAINT fk_audit_user_id FOREIGN KEY(user_id) REFERENCES users (id)
);
INSERT INTO "audit" VALUES(1,'2026-11-29T12:19:47.350254+00:00',1,'Anna','export','6bgInoxOE6EyPVv3','dQKDre9vzh4TK7kM','127.0.0.1','{"format": "seg"}');
CREATE TABLE case_events (
	id INTEGER NOT NULL, 
	case_id INTEGER NOT NULL, 
	at VARCHAR(32) NOT NULL, 
	by_id INTEGER, 
	kind VARCHAR NOT NULL, 
	details JSON NOT NULL, 
	CONSTRAINT pk_case_events PRIMARY KEY (id), 
	CONSTRAINT fk_case_events_case_id FOREIGN KEY(case_id) REFERENCES cases (id), 
	CONSTRAINT fk_case_events_by_id FOREIGN KEY(by_id) REFERENCES users (id)
);
INSERT INTO "case_events" VALUES(1,1,'2026-11-29T12:19:47.145425+00:00',1,'added','{"name": "scan.nii.gz"}');
INSERT INTO "case_events" VALUES(2,1,'2026-11-29T12:19:47.186284+00:00',1,'shared','{"user": 2}');
INSERT INTO "case_events" VALUES(3,1,'2026-11-29T12:19:47.194227+00:00',1,'opened','{}');
CREATE TABLE case_readers (
	case_id INTEGER NOT NULL, 
	user_id INTEGER NOT NULL, 
	CONSTRAINT pk_case_readers PRIMARY KEY (case_id, user_id), 
	CONSTRAINT fk_case_readers_case_id FOREIGN KEY(case_id) REFERENCES cases (id), 
	CONSTRAINT fk_case_readers_user_id FOREIGN KEY(user_id) REFERENCES users (id)
);
INSERT INTO "case_readers" VALUES(1,2);
CREATE TABLE cases (
	id INTEGER NOT NULL, 
	public_id VARCHAR NOT NULL, 
	kind VARCHAR NOT NULL, 
	source VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	owner_id INTEGER, 
	modality VARCHAR, 
	details JSON NOT NULL, 
	added_at VARCHAR(32) NOT NULL, 
	opened_at VARCHAR(32), 
	vanished_at VARCHAR(32), 
	removed_at VARCHAR(32), 
	files_gone_at VARCHAR(32), 
	CONSTRAINT pk_cases PRIMARY KEY (id), 
	CONSTRAINT uq_cases_public_id UNIQUE (public_id), 
	CONSTRAINT fk_cases_owner_id FOREIGN KEY(owner_id) REFERENCES users (id)
);
INSERT INTO "cases" VALUES(1,'6bgInoxOE6EyPVv3','upload','upload:1','scan.nii.gz',1,'CT','{"shape": [4, 8, 8]}','2026-11-29T12:19:47.145425+00:00','2026-11-29T12:19:47.194227+00:00',NULL,NULL,NULL);
CREATE TABLE logins (
	id INTEGER NOT NULL, 
	user_id INTEGER NOT NULL, 
	digest VARCHAR NOT NULL, 
	began_at VARCHAR(32) NOT NULL, 
	seen_at VARCHAR(32) NOT NULL, 
	ended_at VARCHAR(32), 
	CONSTRAINT pk_logins PRIMARY KEY (id), 
	CONSTRAINT uq_logins_digest UNIQUE (digest), 
	CONSTRAINT fk_logins_user_id FOREIGN KEY(user_id) REFERENCES users (id)
);
INSERT INTO "logins" VALUES(1,1,'f24b52f6dc468f2838d273a220cdb8d06dae00b439720da8802cce3095089537','2026-11-29T12:19:47.118246+00:00','2026-11-29T12:19:47.118246+00:00',NULL);
CREATE TABLE masks (
	id INTEGER NOT NULL, 
	reading_id INTEGER NOT NULL, 
	revision INTEGER NOT NULL, 
	step_id INTEGER NOT NULL, 
	object INTEGER NOT NULL, 
	axis VARCHAR NOT NULL, 
	slice INTEGER NOT NULL, 
	status VARCHAR NOT NULL, 
	current BOOLEAN NOT NULL, 
	rows INTEGER NOT NULL, 
	columns INTEGER NOT NULL, 
	y0 INTEGER NOT NULL, 
	y1 INTEGER NOT NULL, 
	x0 INTEGER NOT NULL, 
	x1 INTEGER NOT NULL, 
	area INTEGER NOT NULL, 
	predicted_iou DOUBLE, 
	expected_dice DOUBLE, 
	number INTEGER, 
	extra JSON, 
	bits BLOB NOT NULL, 
	CONSTRAINT pk_masks PRIMARY KEY (id), 
	CONSTRAINT uq_masks_reading_id_revision_object_axis_slice UNIQUE (reading_id, revision, object, axis, slice), 
	CONSTRAINT fk_masks_reading_id_revision FOREIGN KEY(reading_id, revision) REFERENCES revisions (reading_id, revision), 
	CONSTRAINT fk_masks_step_id FOREIGN KEY(step_id) REFERENCES steps (id)
);
INSERT INTO "masks" VALUES(1,1,3,1,1,'k',1,'first',1,8,8,1,5,1,5,16,0.75,NULL,0,NULL,X'7801FBFF1F0002FF01FF');
INSERT INTO "masks" VALUES(2,1,4,1,1,'k',1,'refined',1,8,8,1,6,1,6,25,0.875,NULL,1,'{"parts": [1]}',X'7801FBFFFF7F0300097B037E');
INSERT INTO "masks" VALUES(3,1,6,2,1,'k',2,'propagated',1,8,8,2,6,2,6,16,NULL,NULL,NULL,NULL,X'7801FBFF1F0002FF01FF');
INSERT INTO "masks" VALUES(4,1,6,2,1,'k',3,'propagated',1,8,8,2,5,2,5,9,NULL,NULL,NULL,NULL,X'7801FBDF000002800180');
INSERT INTO "masks" VALUES(5,1,8,4,1,'k',2,'removed',1,8,8,0,0,0,0,0,NULL,NULL,NULL,NULL,X'7801030000000001');
INSERT INTO "masks" VALUES(6,1,8,4,1,'k',3,'removed',1,8,8,0,0,0,0,0,NULL,NULL,NULL,NULL,X'7801030000000001');
CREATE TABLE object_events (
	id INTEGER NOT NULL, 
	reading_id INTEGER NOT NULL, 
	revision INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	kind VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	colour VARCHAR NOT NULL, 
	visible BOOLEAN NOT NULL, 
	locked BOOLEAN NOT NULL, 
	CONSTRAINT pk_object_events PRIMARY KEY (id), 
	CONSTRAINT uq_object_events_reading_id_revision_number UNIQUE (reading_id, revision, number), 
	CONSTRAINT fk_object_events_reading_id_revision FOREIGN KEY(reading_id, revision) REFERENCES revisions (reading_id, revision)
);
INSERT INTO "object_events" VALUES(1,1,1,1,'created','liver','#aa0000',1,0);
INSERT INTO "object_events" VALUES(2,1,2,1,'locked','liver','#aa0000',1,1);
CREATE TABLE readings (
	id INTEGER NOT NULL, 
	public_id VARCHAR NOT NULL, 
	case_id INTEGER NOT NULL, 
	user_id INTEGER NOT NULL, 
	began_at VARCHAR(32) NOT NULL, 
	model VARCHAR NOT NULL, 
	weights VARCHAR NOT NULL, 
	engine VARCHAR NOT NULL, 
	precision VARCHAR NOT NULL, 
	voxels VARCHAR NOT NULL, 
	axis VARCHAR NOT NULL, 
	modality VARCHAR, 
	medsam VARCHAR NOT NULL, 
	document JSON NOT NULL, 
	CONSTRAINT pk_readings PRIMARY KEY (id), 
	CONSTRAINT uq_readings_public_id UNIQUE (public_id), 
	CONSTRAINT fk_readings_case_id FOREIGN KEY(case_id) REFERENCES cases (id), 
	CONSTRAINT fk_readings_user_id FOREIGN KEY(user_id) REFERENCES users (id)
);
INSERT INTO "readings" VALUES(1,'dQKDre9vzh4TK7kM',1,1,'2026-11-29T12:19:47.194227+00:00','tiny','abababababababababababababababababababababababababababababababab','torch','float32','cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd','k','CT','0.1.0','{"kind": "medsam session", "version": 1, "model": {"name": "tiny", "weights": "abababababababababababababababababababababababababababababababab", "engine": "torch", "precision": "float32"}, "scan": {"geometry": {"shape": [4, 8, 8]}, "voxels": "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"}, "axis": "k", "modality": "CT"}');
CREATE TABLE revisions (
	reading_id INTEGER NOT NULL, 
	revision INTEGER NOT NULL, 
	kind VARCHAR NOT NULL, 
	at VARCHAR(32) NOT NULL, 
	by_id INTEGER NOT NULL, 
	model VARCHAR, 
	weights VARCHAR, 
	settings JSON, 
	seconds DOUBLE, 
	CONSTRAINT pk_revisions PRIMARY KEY (reading_id, revision), 
	CONSTRAINT fk_revisions_reading_id FOREIGN KEY(reading_id) REFERENCES readings (id), 
	CONSTRAINT fk_revisions_by_id FOREIGN KEY(by_id) REFERENCES users (id)
)
 WITHOUT ROWID

;
INSERT INTO "revisions" VALUES(1,0,'opened','2026-11-29T12:19:47.194227+00:00',1,NULL,NULL,NULL,NULL);
INSERT INTO "revisions" VALUES(1,1,'object','2026-11-29T12:19:47.237095+00:00',1,NULL,NULL,NULL,NULL);
INSERT INTO "revisions" VALUES(1,2,'object','2026-11-29T12:19:47.256271+00:00',1,NULL,NULL,NULL,NULL);
INSERT INTO "revisions" VALUES(1,3,'step','2026-11-29T12:19:47.271229+00:00',1,'tiny','abababababababababababababababababababababababababababababababab','{"zoom": "auto"}',0.125);
INSERT INTO "revisions" VALUES(1,4,'masks','2026-11-29T12:19:47.284057+00:00',1,NULL,NULL,NULL,NULL);
INSERT INTO "revisions" VALUES(1,5,'step','2026-11-29T12:19:47.296239+00:00',1,NULL,NULL,NULL,NULL);
INSERT INTO "revisions" VALUES(1,6,'masks','2026-11-29T12:19:47.311567+00:00',1,NULL,NULL,NULL,NULL);
INSERT INTO "revisions" VALUES(1,7,'step','2026-11-29T12:19:47.327236+00:00',1,NULL,NULL,NULL,NULL);
INSERT INTO "revisions" VALUES(1,8,'step','2026-11-29T12:19:47.331797+00:00',1,NULL,NULL,NULL,NULL);
CREATE TABLE steps (
	id INTEGER NOT NULL, 
	reading_id INTEGER NOT NULL, 
	revision INTEGER NOT NULL, 
	kind VARCHAR NOT NULL, 
	object INTEGER, 
	slice INTEGER, 
	ends INTEGER, 
	prompts JSON, 
	CONSTRAINT pk_steps PRIMARY KEY (id), 
	CONSTRAINT fk_steps_ends FOREIGN KEY(ends) REFERENCES steps (id), 
	CONSTRAINT uq_steps_reading_id_revision UNIQUE (reading_id, revision), 
	CONSTRAINT fk_steps_reading_id_revision FOREIGN KEY(reading_id, revision) REFERENCES revisions (reading_id, revision)
);
INSERT INTO "steps" VALUES(1,1,3,'prompt',1,1,NULL,'{"box": [1, 1, 5, 5]}');
INSERT INTO "steps" VALUES(2,1,5,'following',1,NULL,NULL,NULL);
INSERT INTO "steps" VALUES(3,1,7,'propagate',1,NULL,2,NULL);
INSERT INTO "steps" VALUES(4,1,8,'undo',NULL,NULL,NULL,NULL);
CREATE TABLE tokens (
	id INTEGER NOT NULL, 
	public_id VARCHAR NOT NULL, 
	user_id INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	digest VARCHAR NOT NULL, 
	added_at VARCHAR(32) NOT NULL, 
	expires_at VARCHAR(32), 
	used_at VARCHAR(32), 
	revoked_at VARCHAR(32), 
	CONSTRAINT pk_tokens PRIMARY KEY (id), 
	CONSTRAINT uq_tokens_public_id UNIQUE (public_id), 
	CONSTRAINT uq_tokens_digest UNIQUE (digest), 
	CONSTRAINT fk_tokens_user_id FOREIGN KEY(user_id) REFERENCES users (id)
);
INSERT INTO "tokens" VALUES(1,'AiF4tBt3NZkHLHDp',1,'a script','cbf032724698d2ff72755dd62373349d01549ff4f4358b9954ec4233cf4c7981','2026-11-29T12:19:47.105061+00:00','2030-01-01T00:00:00.000000+00:00',NULL,NULL);
CREATE TABLE users (
	id INTEGER NOT NULL, 
	public_id VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	kind VARCHAR NOT NULL, 
	role INTEGER NOT NULL, 
	password VARCHAR, 
	active BOOLEAN NOT NULL, 
	added_at VARCHAR(32) NOT NULL, 
	CONSTRAINT pk_users PRIMARY KEY (id), 
	CONSTRAINT uq_users_public_id UNIQUE (public_id), 
	CONSTRAINT uq_users_name UNIQUE (name)
);
INSERT INTO "users" VALUES(1,'IV_8vFyMtWUdGepH','Anna','person',1,'$argon2id$v=19$m=65536,t=3,p=4$MMHbbgksMmGDBWoXyuVa8w$HTS1ReQyi//cgTmwtikFqbz013mf6Rp5Wik89HsjVuE',1,'2026-11-29T12:19:47.041591+00:00');
INSERT INTO "users" VALUES(2,'LQX4gA8vegbs2yso','Otto','proxy',2,NULL,1,'2026-11-29T12:19:47.098290+00:00');
CREATE INDEX ix_tokens_user_id ON tokens (user_id);
CREATE INDEX ix_logins_user_id ON logins (user_id);
CREATE INDEX ix_audit_at ON audit (at);
CREATE INDEX ix_audit_user_id ON audit (user_id);
CREATE INDEX ix_audit_case ON audit ("case");
CREATE INDEX ix_cases_owner_id ON cases (owner_id);
CREATE UNIQUE INDEX ix_cases_here ON cases (source) WHERE removed_at IS NULL;
CREATE INDEX ix_cases_files_left ON cases (removed_at) WHERE files_gone_at IS NULL;
CREATE INDEX ix_case_readers_user_id ON case_readers (user_id);
CREATE INDEX ix_case_events_case_id ON case_events (case_id);
CREATE INDEX ix_readings_case_id ON readings (case_id);
CREATE INDEX ix_readings_user_id ON readings (user_id);
CREATE INDEX ix_revisions_closed ON revisions (reading_id, at) WHERE kind = 'closed';
CREATE INDEX ix_masks_of_steps ON masks (reading_id, step_id, object, axis, slice);
CREATE INDEX ix_masks_current ON masks (reading_id, revision, object, axis, slice, current) WHERE current = 1;
CREATE TRIGGER case_events_no_update BEFORE UPDATE ON case_events BEGIN SELECT RAISE(ABORT, 'case_events is append-only'); END;
CREATE TRIGGER case_events_no_delete BEFORE DELETE ON case_events BEGIN SELECT RAISE(ABORT, 'case_events is append-only'); END;
CREATE TRIGGER readings_no_update BEFORE UPDATE ON readings BEGIN SELECT RAISE(ABORT, 'readings is append-only'); END;
CREATE TRIGGER readings_no_delete BEFORE DELETE ON readings BEGIN SELECT RAISE(ABORT, 'readings is append-only'); END;
CREATE TRIGGER revisions_no_update BEFORE UPDATE ON revisions BEGIN SELECT RAISE(ABORT, 'revisions is append-only'); END;
CREATE TRIGGER revisions_no_delete BEFORE DELETE ON revisions BEGIN SELECT RAISE(ABORT, 'revisions is append-only'); END;
CREATE TRIGGER object_events_no_update BEFORE UPDATE ON object_events BEGIN SELECT RAISE(ABORT, 'object_events is append-only'); END;
CREATE TRIGGER object_events_no_delete BEFORE DELETE ON object_events BEGIN SELECT RAISE(ABORT, 'object_events is append-only'); END;
CREATE TRIGGER steps_no_update BEFORE UPDATE ON steps BEGIN SELECT RAISE(ABORT, 'steps is append-only'); END;
CREATE TRIGGER steps_no_delete BEFORE DELETE ON steps BEGIN SELECT RAISE(ABORT, 'steps is append-only'); END;
CREATE TRIGGER masks_no_update BEFORE UPDATE ON masks BEGIN SELECT RAISE(ABORT, 'masks is append-only'); END;
CREATE TRIGGER masks_no_delete BEFORE DELETE ON masks BEGIN SELECT RAISE(ABORT, 'masks is append-only'); END;
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;
CREATE TRIGGER cases_no_delete BEFORE DELETE ON cases BEGIN SELECT RAISE(ABORT, 'cases is append-only'); END;
CREATE TRIGGER cases_identity BEFORE UPDATE OF id, public_id, source, owner_id, added_at ON cases BEGIN SELECT RAISE(ABORT, 'cases is append-only'); END;
COMMIT;
