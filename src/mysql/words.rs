//! Words that mean something: keywords and the names of the servers' own functions.
//!
//! What goes in: an unquoted name. What comes out: the [`Word`] that it is, without regard to case, and a hash of it. It owns a table that
//! the compiler builds. Always true: looking a word up neither allocates nor compares with more than a few others.

/// The table's size: a power of two, several times the number of words.
const SLOTS: usize = 4096;
/// Bits of a hash that do not choose a slot.
const SHIFT: u32 = 64 - SLOTS.trailing_zeros();
/// Bytes of the longest word.
const BYTES_MAX: usize = 44;

macro_rules! words {
    ($($name:ident $text:literal,)*) => {
        /// A word as far as the judgement of a statement depends on it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "each stands for the keyword of its name")]
        pub enum Word {
            /// A name.
            Name,
            /// A keyword on which nothing depends.
            Keyword,
            /// A function of the servers' own on which nothing depends.
            Function,
            $($name,)*
        }
        const MEANINGS: &[(&str, Word)] = &[$(($text, Word::$name),)*];
    };
}

words! {
    // What statements begin with.
    Select "SELECT", Values "VALUES", Table "TABLE", With "WITH", Insert "INSERT", Replace "REPLACE", Update "UPDATE",
    Delete "DELETE", Load "LOAD", Truncate "TRUNCATE", Create "CREATE", Alter "ALTER", Drop "DROP", Rename "RENAME",
    Grant "GRANT", Revoke "REVOKE", Call "CALL", Do "DO", Handler "HANDLER", Begin "BEGIN", Start "START",
    Commit "COMMIT", Rollback "ROLLBACK", Savepoint "SAVEPOINT", Release "RELEASE", Set "SET", Use "USE",
    Show "SHOW", Explain "EXPLAIN", Describe "DESCRIBE", Desc "DESC", Analyze "ANALYZE", Optimize "OPTIMIZE",
    Repair "REPAIR", Check "CHECK", Checksum "CHECKSUM", Flush "FLUSH", Reset "RESET", Lock "LOCK", Unlock "UNLOCK",
    Backup "BACKUP", Xa "XA", Kill "KILL", Prepare "PREPARE", Execute "EXECUTE", Deallocate "DEALLOCATE",
    Purge "PURGE", Change "CHANGE", Stop "STOP", Install "INSTALL", Uninstall "UNINSTALL", Shutdown "SHUTDOWN",
    Restart "RESTART", Clone "CLONE", Get "GET", Signal "SIGNAL", Resignal "RESIGNAL", Help "HELP", Binlog "BINLOG",
    Cache "CACHE", Import "IMPORT", If "IF", Case "CASE", Loop "LOOP", Repeat "REPEAT", While "WHILE", For "FOR",
    Declare "DECLARE",
    // What they go on with.
    From "FROM", Into "INTO", Outfile "OUTFILE", Dumpfile "DUMPFILE", Share "SHARE", In "IN", As "AS", Next "NEXT",
    Previous "PREVIOUS", Value "VALUE", Temporary "TEMPORARY", Not "NOT", Exists "EXISTS", Or "OR", End "END",
    Local "LOCAL", Infile "INFILE", Null "NULL", True "TRUE", False "FALSE", On "ON", To "TO",
    SqlCalcFoundRows "SQL_CALC_FOUND_ROWS", Procedure "PROCEDURE", FunctionWord "FUNCTION", Trigger "TRIGGER",
    Event "EVENT", Package "PACKAGE", Transaction "TRANSACTION", By "BY", Using "USING",
    // Functions that do more than compute.
    GetLock "GET_LOCK", ReleaseLock "RELEASE_LOCK", ReleaseAllLocks "RELEASE_ALL_LOCKS",
    IsFreeLock "IS_FREE_LOCK", IsUsedLock "IS_USED_LOCK", LastInsertId "LAST_INSERT_ID",
    FoundRows "FOUND_ROWS", RowCount "ROW_COUNT", ConnectionId "CONNECTION_ID", NextVal "NEXTVAL",
    SetVal "SETVAL", LastVal "LASTVAL", CurrVal "CURRVAL", LoadFile "LOAD_FILE",
    MasterGtidWait "MASTER_GTID_WAIT", MasterPosWait "MASTER_POS_WAIT", SourcePosWait "SOURCE_POS_WAIT",
    WaitForExecutedGtidSet "WAIT_FOR_EXECUTED_GTID_SET",
    WaitUntilGtids "WAIT_UNTIL_SQL_THREAD_AFTER_GTIDS", BinlogGtidPos "BINLOG_GTID_POS",
    WsrepSyncWait "WSREP_SYNC_WAIT_UPTO_GTID", WsrepLastWritten "WSREP_LAST_WRITTEN_GTID",
    // Schemas about the server itself.
    PerformanceSchema "PERFORMANCE_SCHEMA", InformationSchema "INFORMATION_SCHEMA",
}

/// Reserved words, and others that stand before a parenthesis without being functions.
const KEYWORDS: &str = "
    ACCESSIBLE ADD AGAINST ALL AND ANY ARRAY ASC ASENSITIVE BEFORE BETWEEN BIGINT BINARY BIT BLOB BOOL BOOLEAN BOTH CASCADE
    CHANGE CHARACTER CHARSET COLLATE COLUMN COLUMNS CONDITION CONSTRAINT CONTINUE CONVERT CROSS CUBE CURRENT_DATE
    CURRENT_ROLE CURRENT_TIME CURRENT_TIMESTAMP CURRENT_USER CURSOR DATABASES DATETIME DAY_HOUR DAY_MICROSECOND DAY_MINUTE
    DAY_SECOND DEC DECIMAL DEFAULT DELAYED DELETE_DOMAIN_ID DETERMINISTIC DISTINCT DISTINCTROW DIV DO_DOMAIN_IDS
    DOUBLE DUAL DUPLICATE EACH ELSE ELSEIF EMPTY ENCLOSED ENGINE ENUM ESCAPED EXCEPT EXIT FETCH FIXED FLOAT FLOAT4 FLOAT8 FORCE
    FOREIGN FULLTEXT GENERAL GENERATED GROUP GROUPING GROUPS HAVING HIGH_PRIORITY HOUR_MICROSECOND HOUR_MINUTE
    HOUR_SECOND IGNORE IGNORE_DOMAIN_IDS IGNORED INDEX INDEXES INNER INOUT INSENSITIVE INT INT1 INT2 INT3 INT4 INT8 INTEGER INTERSECT
    INTERVAL IO_AFTER_GTIDS IO_BEFORE_GTIDS IS ITERATE JOIN JSON_TABLE KEY KEYS LATERAL LEADING LEAVE
    LIKE LIMIT LINEAR LINES LONG LONGBLOB LONGTEXT LOW_PRIORITY MANUAL MASTER_BIND
    MASTER_HEARTBEAT_PERIOD MASTER_SSL_VERIFY_SERVER_CERT MATCH MAXVALUE MEDIUMBLOB MEDIUMINT MEDIUMTEXT MEMBER
    MIDDLEINT MINUS MINUTE_MICROSECOND MINUTE_SECOND MODIFIES NATIONAL NATURAL NCHAR NESTED NO_WRITE_TO_BINLOG NUMERIC NVARCHAR
    OF OFFSET OPTIMIZER_COSTS OPTION OPTIONALLY ORDER OUT OUTER OVER OVERLAPS PAGE_CHECKSUM PARALLEL PARSE_VCOL_EXPR
    PARTITION PARTITIONS PRECISION PRIMARY QUALIFY RANGE READ READS READ_WRITE REAL RECURSIVE REFERENCES
    REF_SYSTEM_ID REGEXP REQUIRE RESTRICT RETURN RETURNING RLIKE ROLLUP ROW ROWS SCHEMAS SECOND_MICROSECOND
    SENSITIVE SEPARATOR SIGNED SLOW SMALLINT SOME SPATIAL SPECIFIC SQL SQLEXCEPTION SQLSTATE SQLWARNING
    SQL_BIG_RESULT SQL_BUFFER_RESULT SQL_CACHE SQL_NO_CACHE SQL_SMALL_RESULT SSL STARTING STATS_AUTO_RECALC
    STATS_PERSISTENT STATS_SAMPLE_PAGES STORED STRAIGHT_JOIN SUBPARTITION SYSTEM TABLESAMPLE TERMINATED THAN THEN TIES TINYBLOB
    TINYINT TINYTEXT TRAILING UNDO UNION UNIQUE UNSIGNED UNTIL USAGE VARBINARY VARCHAR VARCHARACTER VARYING VIRTUAL
    WHEN WHERE WINDOW WITHIN WRITE XOR YEAR_MONTH ZEROFILL NOWAIT SKIP LOCKED MODE TIMESTAMP_TYPE VECTOR
";

/// The servers' own functions that do nothing but compute (`CALL f` is no function).
const FUNCTIONS: &str = "
    ABS ACOS ADDDATE ADDTIME ADD_MONTHS AES_DECRYPT AES_ENCRYPT ANY_VALUE ASCII ASIN ATAN ATAN2 AVG BENCHMARK BIN
    BIN_TO_UUID BIT_AND BIT_COUNT BIT_LENGTH BIT_OR BIT_XOR CAST CEIL CEILING CHAR CHARACTER_LENGTH CHAR_LENGTH CHR
    COALESCE COERCIBILITY COLLATION COLUMN_ADD COLUMN_CHECK COLUMN_CREATE COLUMN_DELETE COLUMN_EXISTS COLUMN_GET
    COLUMN_JSON COLUMN_LIST COMPRESS CONCAT CONCAT_OPERATOR_ORACLE CONCAT_WS CONV CONVERT_TZ COS COT COUNT CRC32 CRC32C
    CUME_DIST CURDATE CURTIME DATABASE DATE DATEDIFF DATE_ADD DATE_FORMAT DATE_SUB DAY DAYNAME DAYOFMONTH
    DAYOFWEEK DAYOFYEAR DECODE DECODE_HISTOGRAM DECODE_ORACLE DEGREES DENSE_RANK DES_DECRYPT DES_ENCRYPT DISTANCE ELT ENCODE
    ENCRYPT EXP EXPORT_SET EXTRACT EXTRACTVALUE FIELD FIND_IN_SET FIRST_VALUE FLOOR FORMAT FORMAT_BYTES
    FORMAT_PICO_TIME FROM_BASE64 FROM_DAYS FROM_UNIXTIME FROM_VECTOR GEOMCOLLECTION GEOMETRYCOLLECTION GET_FORMAT
    GREATEST GROUP_CONCAT GTID_SUBSET GTID_SUBTRACT HEX HOUR ICU_VERSION IFNULL INET6_ATON INET6_NTOA INET_ATON INET_NTOA
    INSTR ISNULL IS_IPV4 IS_IPV4_COMPAT IS_IPV4_MAPPED IS_IPV6 IS_UUID JSON_ARRAY JSON_ARRAYAGG JSON_ARRAY_APPEND
    JSON_ARRAY_INSERT JSON_ARRAY_INTERSECT JSON_COMPACT JSON_CONTAINS JSON_CONTAINS_PATH JSON_DEPTH JSON_DETAILED
    JSON_EQUALS JSON_EXISTS JSON_EXTRACT JSON_INSERT JSON_KEYS JSON_KEY_VALUE JSON_LENGTH JSON_LOOSE JSON_MERGE
    JSON_MERGE_PATCH JSON_MERGE_PRESERVE JSON_NORMALIZE JSON_OBJECT JSON_OBJECTAGG JSON_OBJECT_FILTER_KEYS
    JSON_OBJECT_TO_ARRAY JSON_OVERLAPS JSON_PRETTY JSON_QUERY JSON_QUOTE JSON_REMOVE JSON_REPLACE JSON_SCHEMA_VALID
    JSON_SCHEMA_VALIDATION_REPORT JSON_SEARCH JSON_SET JSON_STORAGE_FREE JSON_STORAGE_SIZE JSON_TYPE JSON_UNQUOTE
    JSON_VALID JSON_VALUE KDF LAG LAST_DAY LAST_VALUE LCASE LEAD LEAST LEFT LENGTH LENGTHB LINESTRING LN LOCALTIME
    LOCALTIMESTAMP LOCATE LOG LOG10 LOG2 LOWER LPAD LPAD_ORACLE LTRIM LTRIM_ORACLE MAKEDATE MAKETIME MAKE_SET MAX
    MBRCONTAINS MBRCOVEREDBY MBRCOVERS MBRDISJOINT MBREQUALS MBRINTERSECTS MBROVERLAPS MBRTOUCHES MBRWITHIN MD5 MEDIAN
    MICROSECOND MID MIN MINUTE MOD MONTH MONTHNAME MULTILINESTRING MULTIPOINT MULTIPOLYGON NAME_CONST NATURAL_SORT_KEY
    NOW NTH_VALUE NTILE NULLIF NVL NVL2 OCT OCTET_LENGTH OLD_PASSWORD ORD PASSWORD PERCENTILE_CONT PERCENTILE_DISC
    PERCENT_RANK PERIOD_ADD PERIOD_DIFF PI POINT POLYGON POSITION POW POWER QUARTER QUOTE RADIANS RAND RANDOM_BYTES
    RANK REGEXP_INSTR REGEXP_LIKE REGEXP_REPLACE REGEXP_SUBSTR REPLACE_ORACLE REVERSE RIGHT ROLES_GRAPHML ROUND ROWNUM
    ROW_NUMBER RPAD RPAD_ORACLE RTRIM RTRIM_ORACLE SCHEMA SECOND SEC_TO_TIME SESSION_USER SFORMAT SHA SHA1 SHA2 SIGN SIN
    SLEEP SOUNDEX SPACE SQRT STATEMENT_DIGEST STATEMENT_DIGEST_TEXT STD STDDEV STDDEV_POP STDDEV_SAMP STRCMP
    STRING_TO_VECTOR STR_TO_DATE ST_AREA ST_ASBINARY ST_ASGEOJSON ST_ASTEXT ST_ASWKB ST_ASWKT ST_BOUNDARY ST_BUFFER
    ST_CENTROID ST_CONTAINS ST_CONVEXHULL ST_CROSSES ST_DIFFERENCE ST_DIMENSION ST_DISJOINT ST_DISTANCE
    ST_DISTANCE_SPHERE ST_ENDPOINT ST_ENVELOPE ST_EQUALS ST_EXTERIORRING ST_GEOHASH ST_GEOMCOLLFROMTEXT
    ST_GEOMETRYFROMTEXT ST_GEOMETRYN ST_GEOMETRYTYPE ST_GEOMFROMGEOJSON ST_GEOMFROMTEXT ST_GEOMFROMWKB
    ST_INTERIORRINGN ST_INTERSECTION ST_INTERSECTS ST_ISCLOSED ST_ISEMPTY ST_ISRING ST_ISSIMPLE ST_ISVALID
    ST_LATFROMGEOHASH ST_LATITUDE ST_LENGTH ST_LINEFROMTEXT ST_LONGFROMGEOHASH ST_LONGITUDE ST_MAKEENVELOPE ST_NUMGEOMETRIES
    ST_NUMINTERIORRINGS ST_NUMPOINTS ST_OVERLAPS ST_POINTFROMGEOHASH ST_POINTFROMTEXT ST_POINTN ST_POINTONSURFACE ST_POLYFROMTEXT
    ST_RELATE ST_SIMPLIFY ST_SRID ST_STARTPOINT ST_SWAPXY ST_SYMDIFFERENCE ST_TOUCHES ST_TRANSFORM ST_UNION ST_VALIDATE
    ST_WITHIN ST_X ST_Y SUBDATE SUBSTR SUBSTRING SUBSTRING_INDEX SUBSTR_ORACLE SUBTIME SUM SYSDATE SYSTEM_USER SYS_GUID
    TAN TIME TIMEDIFF TIMESTAMP TIMESTAMPADD TIMESTAMPDIFF TIME_FORMAT TIME_TO_SEC TO_BASE64 TO_CHAR TO_DAYS TO_NUMBER
    TO_SECONDS TO_VECTOR TRIM TRIM_ORACLE UCASE UNCOMPRESS UNCOMPRESSED_LENGTH UNHEX UNIX_TIMESTAMP UPDATEXML UPPER
    USER UTC_DATE UTC_TIME UTC_TIMESTAMP UUID UUID_SHORT UUID_TO_BIN UUID_V4 UUID_V7 VALIDATE_PASSWORD_STRENGTH
    VARIANCE VAR_POP VAR_SAMP VECTOR_DIM VECTOR_TO_STRING VEC_DISTANCE VEC_DISTANCE_COSINE VEC_DISTANCE_EUCLIDEAN VEC_FROMTEXT
    VEC_TOTEXT VERSION WEEK WEEKDAY WEEKOFYEAR WEIGHT_STRING WSREP_LAST_SEEN_GTID XMLTYPE YEAR YEARWEEK
";

#[derive(Clone, Copy)]
struct Slot {
    hash: u64,
    name: &'static [u8],
    word: Word,
}

static TABLE: [Slot; SLOTS] = {
    let mut table = [Slot { hash: 0, name: b"", word: Word::Name }; SLOTS];
    let mut at = 0;
    while at < MEANINGS.len() {
        table = with(table, MEANINGS[at].0.as_bytes(), MEANINGS[at].1);
        at += 1;
    }
    table = with_all(table, KEYWORDS.as_bytes(), Word::Keyword);
    with_all(table, FUNCTIONS.as_bytes(), Word::Function)
};

/// Adds the words of a list.
const fn with_all(mut table: [Slot; SLOTS], mut list: &'static [u8], word: Word) -> [Slot; SLOTS] {
    loop {
        list = list.trim_ascii_start();
        let mut end = 0;
        while end < list.len() && !list[end].is_ascii_whitespace() {
            end += 1;
        }
        if end == 0 {
            return table;
        }
        let (name, rest) = list.split_at(end);
        table = with(table, name, word);
        list = rest;
    }
}

/// Adds a word; one that is there already stays what it is.
const fn with(mut table: [Slot; SLOTS], name: &'static [u8], word: Word) -> [Slot; SLOTS] {
    assert!(name.len() <= BYTES_MAX);
    let hash = folded_hash(name);
    let mut at = (hash >> SHIFT) as usize;
    while !table[at].name.is_empty() {
        if same(table[at].name, name) {
            return table;
        }
        at = (at + 1) % SLOTS;
    }
    table[at] = Slot { hash, name, word };
    table
}

const fn same(mut a: &[u8], mut b: &[u8]) -> bool {
    while let ([x, a_rest @ ..], [y, b_rest @ ..]) = (a, b) {
        if *x != *y {
            return false;
        }
        (a, b) = (a_rest, b_rest);
    }
    a.is_empty() && b.is_empty()
}

const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// A hash that does not depend on the case of letters (and takes some other bytes for the same, too).
pub const fn folded_hash(bytes: &[u8]) -> u64 {
    hash_with(bytes, 0x2020_2020_2020_2020)
}

/// A hash of exactly these bytes.
pub const fn exact_hash(bytes: &[u8]) -> u64 {
    hash_with(bytes, 0)
}

const fn hash_with(mut bytes: &[u8], fold: u64) -> u64 {
    let mut hash = bytes.len() as u64;
    while let [a, b, c, d, e, f, g, h, rest @ ..] = bytes {
        hash = mix(hash, u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]) | fold);
        bytes = rest;
    }
    let mut last = 0;
    if let [a, b, c, d, rest @ ..] = bytes {
        last = u32::from_le_bytes([*a, *b, *c, *d]) as u64;
        bytes = rest;
    }
    while let [byte, rest @ ..] = bytes {
        last = last << 8 | *byte as u64;
        bytes = rest;
    }
    mix(hash, last | fold)
}

/// Both numbers in one.
pub const fn mix(hash: u64, value: u64) -> u64 {
    let mixed = (hash.rotate_left(23) ^ value).wrapping_mul(FACTOR);
    mixed ^ mixed >> 29
}

/// What an unquoted name is, and its [`folded_hash`].
#[inline]
pub fn look_up(name: &[u8]) -> (Word, u64) {
    let hash = folded_hash(name);
    if name.len() > BYTES_MAX {
        return (Word::Name, hash);
    }
    let mut at = (hash >> SHIFT) as usize;
    while let Some(slot) = TABLE.get(at % SLOTS)
        && !slot.name.is_empty()
    {
        // Up to eight bytes of one length have a hash of their own.
        let is_same = slot.hash == hash && slot.name.len() == name.len();
        if is_same && (name.len() <= 8 || slot.name.eq_ignore_ascii_case(name)) {
            return (slot.word, hash);
        }
        at += 1;
    }
    (Word::Name, hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_in_any_case() {
        for (name, word) in MEANINGS {
            assert_eq!(look_up(name.as_bytes()).0, *word, "{name}");
            assert_eq!(look_up(name.to_lowercase().as_bytes()).0, *word, "{name}");
        }
        for (list, word) in [(KEYWORDS, Word::Keyword), (FUNCTIONS, Word::Function)] {
            for name in list.split_whitespace() {
                let found = look_up(name.as_bytes()).0;
                assert!(found == word || !matches!(found, Word::Name), "{name}: {found:?}");
            }
        }
        for name in ["", "selec", "select_", "SELEKT", "get_lock2", "ſelect", &"x".repeat(1000)] {
            assert_eq!(look_up(name.as_bytes()).0, Word::Name, "{name}");
        }
    }

    #[test]
    fn few_words_share_a_slot() {
        let used = TABLE.iter().filter(|slot| !slot.name.is_empty()).count();
        assert!(used < SLOTS / 4, "{used}");
        let longest = TABLE.chunk_by(|a, b| a.name.is_empty() == b.name.is_empty());
        let longest = longest.filter(|run| !run[0].name.is_empty()).map(<[Slot]>::len).max();
        assert!(longest.unwrap() <= 12, "{longest:?}");
    }
}
