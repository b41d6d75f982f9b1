"""The tables of the project database, as the steps from each format version to the next."""

from __future__ import annotations

APPLICATION_ID = 0x50534547
"""``PSEG``: marks a SQLite file as a project database."""

Migration = tuple[str, ...]

# Step i leads from version i to version i + 1. A released step is never edited.
MIGRATIONS: tuple[Migration, ...] = (
    (
        """CREATE TABLE meta (
            key TEXT PRIMARY KEY,
            value TEXT NOT NULL
        ) STRICT""",
        """CREATE TABLE class_schemas (
            version INTEGER PRIMARY KEY,
            json TEXT NOT NULL,
            fingerprint TEXT NOT NULL,
            created TEXT NOT NULL
        ) STRICT""",
        """CREATE TABLE images (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            path TEXT NOT NULL UNIQUE,
            content_hash TEXT NOT NULL UNIQUE,
            width INTEGER NOT NULL CHECK (width > 0),
            height INTEGER NOT NULL CHECK (height > 0),
            micrometres_per_pixel REAL CHECK (micrometres_per_pixel > 0),
            case_name TEXT,
            split TEXT NOT NULL CHECK (split IN ('train', 'validation')),
            mask_path TEXT
        ) STRICT""",
        """CREATE TABLE labels (
            image_id INTEGER NOT NULL REFERENCES images (id) ON DELETE CASCADE,
            class_id INTEGER NOT NULL CHECK (class_id BETWEEN 1 AND 254),
            presence INTEGER NOT NULL CHECK (presence IN (0, 1)),
            source TEXT NOT NULL,
            PRIMARY KEY (image_id, class_id)
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE banks (
            version INTEGER PRIMARY KEY,
            file TEXT NOT NULL,
            summary TEXT NOT NULL,
            schema_fingerprint TEXT NOT NULL,
            created TEXT NOT NULL
        ) STRICT""",
        """CREATE TABLE rounds (
            id INTEGER PRIMARY KEY,
            folder TEXT NOT NULL,
            bank_version INTEGER NOT NULL REFERENCES banks (version),
            config TEXT NOT NULL,
            status TEXT NOT NULL CHECK (status IN ('running', 'stopped', 'finished', 'failed')),
            metrics TEXT,
            created TEXT NOT NULL,
            finished TEXT
        ) STRICT""",
        """CREATE TABLE masks (
            image_id INTEGER PRIMARY KEY REFERENCES images (id) ON DELETE CASCADE,
            array TEXT NOT NULL,
            row INTEGER NOT NULL CHECK (row >= 0),
            digest TEXT NOT NULL,
            round_id INTEGER REFERENCES rounds (id),
            label_condition TEXT NOT NULL,
            recipe TEXT NOT NULL,
            created TEXT NOT NULL,
            UNIQUE (array, row)
        ) STRICT""",
    ),
    (
        """CREATE TABLE muted_prototypes (
            bank_version INTEGER NOT NULL REFERENCES banks (version),
            prototype INTEGER NOT NULL CHECK (prototype >= 0),
            PRIMARY KEY (bank_version, prototype)
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE reviews (
            image_id INTEGER PRIMARY KEY REFERENCES images (id) ON DELETE CASCADE,
            status TEXT NOT NULL CHECK (status IN ('accepted', 'skipped', 'flagged'))
        ) STRICT""",
        "ALTER TABLE masks ADD COLUMN corrected_by TEXT",
        "ALTER TABLE masks ADD COLUMN corrected TEXT",
    ),
    ("ALTER TABLE masks ADD COLUMN bank_version INTEGER REFERENCES banks (version)",),
    (
        """ALTER TABLE rounds ADD COLUMN stage TEXT NOT NULL DEFAULT 'prototypes'
            CHECK (stage IN ('prototypes', 'segmentation'))""",
        """CREATE TABLE people (
            number INTEGER PRIMARY KEY CHECK (number BETWEEN 1 AND 238),
            name TEXT NOT NULL UNIQUE
        ) STRICT""",
        """CREATE TABLE journals (
            image_id INTEGER PRIMARY KEY REFERENCES images (id) ON DELETE CASCADE,
            folded INTEGER NOT NULL CHECK (folded >= 0)
        ) STRICT""",
        """CREATE TABLE edits (
            image_id INTEGER NOT NULL REFERENCES journals (image_id) ON DELETE CASCADE,
            number INTEGER NOT NULL CHECK (number > 0),
            writer TEXT NOT NULL,
            serial INTEGER NOT NULL,
            action TEXT NOT NULL CHECK (action IN ('do', 'undo', 'redo')),
            edit INTEGER NOT NULL CHECK (edit BETWEEN 1 AND number),
            kind TEXT,
            author TEXT,
            round_id INTEGER REFERENCES rounds (id),
            time TEXT NOT NULL,
            source_before TEXT,
            source_after TEXT,
            pixels BLOB,
            UNIQUE (image_id, number),
            UNIQUE (image_id, writer, serial),
            CHECK ((action = 'do') = (edit = number)),
            CHECK ((action = 'do') = (pixels IS NOT NULL)),
            CHECK ((action = 'do') = (kind IS NOT NULL))
        ) STRICT""",
    ),
    (
        """CREATE TABLE former_labels (
            removed_class INTEGER NOT NULL CHECK (removed_class BETWEEN 1 AND 254),
            image_id INTEGER NOT NULL REFERENCES images (id) ON DELETE CASCADE,
            class_id INTEGER NOT NULL CHECK (class_id BETWEEN 1 AND 254),
            presence INTEGER NOT NULL CHECK (presence IN (0, 1)),
            source TEXT NOT NULL,
            PRIMARY KEY (removed_class, image_id, class_id)
        ) STRICT, WITHOUT ROWID""",
        "ALTER TABLE banks ADD COLUMN made_of TEXT",
        "ALTER TABLE rounds ADD COLUMN made_of TEXT",
        "ALTER TABLE masks ADD COLUMN labels TEXT",
    ),
)
