-- What concept-monitor's own code of schema version 2 made of an empty file.
CREATE TABLE acknowledgements (
	alert INTEGER NOT NULL,
	at FLOAT NOT NULL,
	author TEXT NOT NULL,
	note TEXT NOT NULL,
	PRIMARY KEY (alert)
);
CREATE TABLE alerts (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	run TEXT NOT NULL,
	layer TEXT NOT NULL,
	rule TEXT NOT NULL,
	severity TEXT NOT NULL,
	state TEXT NOT NULL,
	step INTEGER NOT NULL,
	opened FLOAT NOT NULL,
	updated FLOAT NOT NULL,
	value FLOAT,
	message TEXT NOT NULL,
	details JSON NOT NULL
);
CREATE TABLE concept_sets (
	fingerprint TEXT NOT NULL,
	name TEXT NOT NULL,
	words JSON NOT NULL,
	categories JSON NOT NULL,
	PRIMARY KEY (fingerprint)
);
CREATE TABLE epochs (
	run TEXT NOT NULL,
	epoch TEXT NOT NULL,
	begun FLOAT NOT NULL,
	start_step INTEGER,
	first_step INTEGER,
	last_step INTEGER,
	ended TEXT DEFAULT '' NOT NULL,
	PRIMARY KEY (run, epoch)
);
CREATE TABLE gaps (
	id INTEGER NOT NULL,
	run TEXT NOT NULL,
	step INTEGER NOT NULL,
	time FLOAT NOT NULL,
	reason TEXT NOT NULL,
	epoch TEXT DEFAULT '' NOT NULL,
	capture INTEGER,
	PRIMARY KEY (id)
);
CREATE TABLE images (
	"key" TEXT NOT NULL,
	digest TEXT NOT NULL,
	segment TEXT NOT NULL,
	"offset" BIGINT NOT NULL,
	length BIGINT NOT NULL,
	crc32 BIGINT NOT NULL,
	arrays JSON NOT NULL,
	PRIMARY KEY ("key")
);
CREATE TABLE layer_descriptions (
	sequence INTEGER NOT NULL,
	layer TEXT NOT NULL,
	texts JSON NOT NULL,
	PRIMARY KEY (sequence, layer)
);
CREATE TABLE layer_reports (
	sequence INTEGER NOT NULL,
	layer TEXT NOT NULL,
	run TEXT NOT NULL,
	step INTEGER NOT NULL,
	summary JSON NOT NULL,
	segment TEXT NOT NULL,
	"offset" BIGINT NOT NULL,
	length BIGINT NOT NULL,
	crc32 BIGINT NOT NULL,
	arrays JSON NOT NULL,
	PRIMARY KEY (sequence, layer)
);
CREATE TABLE layers (
	run TEXT NOT NULL,
	layer TEXT NOT NULL,
	position INTEGER NOT NULL,
	units INTEGER NOT NULL,
	PRIMARY KEY (run, layer)
);
CREATE TABLE meta (
	"key" TEXT NOT NULL,
	value TEXT,
	PRIMARY KEY ("key")
);
CREATE TABLE notices (
	"key" TEXT NOT NULL,
	channel TEXT NOT NULL,
	run TEXT NOT NULL,
	created FLOAT NOT NULL,
	items JSON NOT NULL,
	queued FLOAT NOT NULL,
	state TEXT NOT NULL,
	attempts INTEGER NOT NULL,
	next_at FLOAT NOT NULL,
	error TEXT NOT NULL,
	PRIMARY KEY ("key")
);
CREATE TABLE runs (
	run TEXT NOT NULL,
	name TEXT NOT NULL,
	state TEXT NOT NULL,
	created FLOAT NOT NULL,
	updated FLOAT NOT NULL,
	model TEXT NOT NULL,
	planned_steps INTEGER,
	activity TEXT NOT NULL,
	encoder TEXT NOT NULL,
	detector TEXT NOT NULL,
	temperature FLOAT,
	probes INTEGER NOT NULL,
	probe_fingerprint TEXT NOT NULL,
	probe_source TEXT NOT NULL,
	concept_fingerprint TEXT NOT NULL,
	map_fingerprint TEXT NOT NULL,
	config JSON NOT NULL,
	stats JSON NOT NULL,
	sample TEXT DEFAULT 'probe' NOT NULL,
	revision INTEGER DEFAULT '0' NOT NULL,
	PRIMARY KEY (run)
);
CREATE TABLE sample_sets (
	fingerprint TEXT NOT NULL,
	image_keys BLOB NOT NULL,
	PRIMARY KEY (fingerprint)
);
CREATE TABLE scalars (
	id INTEGER NOT NULL,
	run TEXT NOT NULL,
	epoch TEXT NOT NULL,
	number INTEGER NOT NULL,
	name TEXT NOT NULL,
	step INTEGER NOT NULL,
	time FLOAT NOT NULL,
	value FLOAT,
	PRIMARY KEY (id),
	UNIQUE (run, epoch, number, name)
);
CREATE TABLE silences (
	id TEXT NOT NULL,
	matchers JSON NOT NULL,
	created FLOAT NOT NULL,
	expires FLOAT NOT NULL,
	author TEXT NOT NULL,
	note TEXT NOT NULL,
	PRIMARY KEY (id)
);
CREATE TABLE snapshots (
	sequence INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	run TEXT NOT NULL,
	capture INTEGER NOT NULL,
	step INTEGER NOT NULL,
	captured_at FLOAT NOT NULL,
	received_at FLOAT NOT NULL,
	committed_at FLOAT NOT NULL,
	seconds JSON NOT NULL,
	epoch TEXT NOT NULL,
	probe_fingerprint TEXT DEFAULT '' NOT NULL,
	UNIQUE (run, epoch, capture)
);
CREATE TABLE told (
	channel TEXT NOT NULL,
	alert INTEGER NOT NULL,
	status TEXT NOT NULL,
	severity TEXT NOT NULL,
	at FLOAT NOT NULL,
	delivered BOOLEAN NOT NULL,
	PRIMARY KEY (channel, alert)
);
CREATE INDEX alerts_by_run ON alerts (run, id);
CREATE INDEX layer_reports_by_run ON layer_reports (run, layer, sequence);
CREATE INDEX notices_by_state ON notices (state, created);
CREATE INDEX scalars_by_run ON scalars (run, id);
CREATE INDEX snapshots_by_step ON snapshots (run, step);
INSERT INTO meta VALUES ('schema_version', '2');
