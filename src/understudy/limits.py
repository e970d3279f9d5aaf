"""Every number that bounds something, with its reason. SPEC numbers come from its appendix B."""

# Wire limits (SPEC appendix B; [S] schema, [V] seen on the wire, [G] guides).
METADATA_PAIRS = 16
METADATA_KEY_CHARS = 64
METADATA_VALUE_CHARS = 512
NAME_CHARS = 256
DESCRIPTION_CHARS = 512
INSTRUCTIONS_CHARS = 256_000
MESSAGE_TEXT_CHARS = 256_000
CONTENT_PARTS = 500  # The original caps the number of parts; a bound keeps one message readable.
IMAGES_PER_MESSAGE = 10  # [I] SPEC 7.3.
ATTACHMENTS = 10  # [V] the docs said 20, the wire refused 11 (SPEC 13.27).
ASSISTANT_TOOLS = 128
RUN_TOOLS = 20  # Only the explicit parameter of a run; an assistant's own tools may be 128.
FUNCTION_NAME_CHARS = 64
CODE_INTERPRETER_FILES = 20
VECTOR_STORES_PER_RESOURCE = 1
VECTOR_STORE_HELPER_FILES = 10_000
SEARCH_RESULTS_MAX = 50
MIN_TOKEN_BUDGET = 256
THREAD_MESSAGES = 100_000
LIST_DEFAULT = 20
LIST_MAX = 100
TOOL_OUTPUT_CHARS = 524_288  # SPEC 8.4 [D].
TOOL_OUTPUTS = 128  # As many calls as a turn can make.
EMBEDDING_INPUTS = 2_048
INTEGER_MAX = 2**31 - 1  # Of token counts and the like: what any provider can still read.
ERROR_MESSAGE_CHARS = 16_384  # An error text repeats the client's own values, which may be huge.
ERROR_PARAM_CHARS = 512  # The same for a path, which may hold a key of metadata.

# Vector stores.
VECTOR_STORE_CREATE_FILES = 500  # [S] Of one create call; batches bring more.
VECTOR_STORE_FILES = 10_000  # [G] In one store.
VECTOR_STORE_DAYS = 365  # [S] The longest expires_after.
VECTOR_STORE_THREAD_DAYS = 7  # [G] expires_after of a store that was made for a thread.
FILE_BATCH_FILES = 2_000  # [S]
CHUNK_TOKENS_MIN = 100  # [S]
CHUNK_TOKENS_MAX = 4_096  # [S]
CHUNK_TOKENS = 800  # [G] What `auto` means.
CHUNK_OVERLAP_TOKENS = 400  # [G] The same.
VECTOR_STORE_RESULTS = 10  # [S] Of a search that does not say how many.
VECTOR_STORE_QUERIES = 32  # Of one search call; each is searched for on its own.
VECTOR_STORE_QUERY_CHARS = 32_768  # A whole page may be asked for; more is no question.
FILTER_DEPTH = 16  # Nesting of and/or; nobody reads deeper ones.
FILTER_TERMS = 500  # Comparisons of one filter, each of which costs time per file.
FILTER_VALUES = 2_000  # Of one in/nin: as many as a batch has files.

# Transport.
JSON_BODY_BYTES = 32 * 1024 * 1024
HEAD_BYTES = 1024 * 1024  # Of a request line with its headers; a read may bring 256 KiB of body.
BODY_STALL_S = 30.0  # A body that sends nothing for this long is given up.
EVENT_ID_DIGITS = 18  # Of each of its two numbers: what every database can compare.
HEADER_VALUE_CHARS = 512  # Of client headers that we echo or store.
JSON_DEPTH = 64  # Nesting of a body; deeper is a client mistake or an attack.
KEEP_ALIVE_S = 15.0  # SPEC 9.1: a comment after this much silence.
IDEMPOTENCY_S = 24 * 3600  # SPEC 2.2.
IDEMPOTENCY_WAIT_S = 30.0  # How long a second call waits for the first with the same key.
POLL_AFTER_MS = 250  # SPEC 2.3: the hint that poll helpers obey.
POLL_HOLD_S = 20.0  # A poll helper's request is held for as long; proxies give up after 60 s.

RANDOM_BYTES = 4_096  # Fetched at once for ids: some 150 of them.

# The run engine.
RUN_TTL_S = 600  # [G]; a setting.
MODEL_TURNS = 50  # SPEC 8.2 [D].
RECLAIMS = 3  # A run whose worker died more often than this is failed (DECISIONS).
LEASE_S = 15.0
HEARTBEAT_S = LEASE_S / 4
LEASE_MARGIN_S = 2.0  # A worker without the store stops this long before its leases end.
POLL_JOBS_S = 1.0  # The safety net under the bell, and the janitor's period.
POLL_LEAST_S = 0.05  # Between looks while a due job may not be taken yet.
JANITOR_S = 30.0
PRUNE_BATCH = 2_000  # Delta rows removed by one commit of the janitor, of which it makes at most so
PRUNE_ROUNDS = 10  # many in its period: more than DELTA_ROWS_S brings meanwhile.
FORGET_ROUNDS = 60  # The same for answers, a DELETE_BATCH each: 1,000 a second.
PURGE_BATCHES = 200  # Batches of one lease; more children wait for the next.
RUNS_AT_ONCE = 1_000  # Per process; a setting.
RUNS_PER_PROJECT = 500  # In the claim, so that one project cannot take every slot.
PROCESS_PAUSE_S = 1.0  # Before a server process that died young is made anew.
PROCESS_LOOK_S = 0.05  # Between looks at processes that were told to end.
NODE_ALIVE_S = 10.0  # A server that was not seen for this long is not waited for.
PIN_WAIT_S = 2.0  # So long a run waits for the server that has the variables of its thread's code.
NODE_KEPT_S = 3_600.0  # A server that was not seen for this long is no news any more.
CANCEL_WAIT_S = 1.0  # A cancel answers when the driver has stopped, or after this.
DRAIN_S = 8.0  # Of the 10 s that SIGTERM may take.
DELTA_TICK_S = 0.03  # Deltas become one row per tick (DECISIONS: 25-40 ms).
DELTA_ROWS_S = 500  # At most so many a second: 250 streams of 20 tokens would make 5,000.
DELTAS_KEPT_S = 3_600  # After the run rests; the final objects hold everything.
CONTEXT_TOKENS = 128_000  # A setting.
CONTEXT_TOKENS_MAX = 10_000_000  # No model's window is larger; a provider's word above it is noise.
CONTEXT_RESERVE_TOKENS = 1_024  # Kept free for the answer when no completion cap is given.
WHOLE_FRAME_BYTES = 4_096  # A run's frame that the log keeps as it is: making it slim costs more.
CONFLICT_RETRIES = 20
MERGE_RETRIES = 100  # Of a file's: a client that edits attributes must not stop its indexing.
LIVE_LOG_BYTES = 16 * 1024  # Frames of one live run kept in memory; older ones are re-read.

# File search within a run.
CITATION_CHARS = 120  # A marker with the longest label that models give it; more is plain text.
SEARCH_QUERIES = 5  # Of one call; the model is told so.
SEARCH_QUERY_CHARS = 4_096  # Of one query of the model; no embedder reads more.
SEARCH_RESULTS = 20  # SPEC 10.1 [G], unless the tool says another number.
SEARCH_RESULTS_SMALL = 5  # The same for gpt-3.5.
SEARCH_BUDGET_TOKENS = 16_000  # SPEC 10.1 [G]: of one search's results, as the model reads them.
SEARCH_BUDGET_TOKENS_SMALL = 4_000  # The same for gpt-3.5.
COUNTED_WHOLE_CHARS = 1_600  # A passage that is longer is sampled for its tokens.
COUNTED_SAMPLE_CHARS = 240  # Of each of three samples.
SEARCH_WINDOW_SHARE = 4  # Results take a quarter of a small model's window: a run may search again.
SEARCH_FILE_NAMES = 50  # Named in the tool's description; every turn sends them.
SEARCH_FILE_NAME_CHARS = 120  # Of one of them.
STORE_POLL_S = 1.0  # The safety net under the bell of that wait.
THREAD_STORE_WAIT_S = 60.0  # A run waits this long for files that its thread just got.

# Code interpreter within a run.
CODE_FILE_NAMES = 50  # Named in the tool's description; every turn sends them.
CODE_MESSAGES_SEEN = 100  # The thread's last ones, whose files a new session gets.
CODE_RUNS_SEEN = 20  # The thread's last ones, to know whether its variables are lost.
CODE_RESTORED_FILES = 200  # Put into a session, newest first, beside those of the tool.
CODE_PATH_BYTES = 200  # Of one name below /mnt/data; folders take 255, and " (2)" has to fit.
CODE_LOST_SESSIONS = 2  # Sessions that one call may use up.
FILE_LINK_CHARS = 4_096  # Of a link in a model's text; nothing is held back for longer.

# The model seam.
MODEL_ATTEMPTS = 4  # Calls of one turn, before the first byte only.
MODEL_BACKOFF_S = 0.5
MODEL_RETRY_AFTER_S = 20.0  # A provider that asks for more fails the run instead.
MODEL_CONNECT_S = 10.0
MODEL_SILENCE_S = 300.0  # Slow local models think long.
MODEL_TOTAL_S = 3_600.0
MODEL_LINE_BYTES = 4 * 1024 * 1024  # One SSE line of the provider.
MODEL_OUTPUT_CHARS = 4 * 1024 * 1024  # Text or arguments of one turn.
MODEL_CALLS = 128  # Tool calls of one turn.
MODEL_LIST_TTL_S = 60.0
MODEL_LIST_WAIT_S = 2.0  # How long a caller waits for a fresh list when an old one is at hand.
MODEL_LIST_PAUSE_S = 5.0  # Between two tries to list the models of a provider that fails.
MODEL_CONNECTIONS = RUNS_AT_ONCE + 100  # Every stream, and room for embeddings and lists.
MODEL_IDLE_S = 30.0  # An unused connection is kept this long; proxies often close after 60 s.
MODEL_TAIL_S = 5.0  # After the finish reason: for usage, [DONE] and the end of the body.
MODEL_BODY_BYTES = 64 * 1024 * 1024  # An answer that is no stream: 2,048 vectors of 3,072 floats.
MODEL_ERROR_BYTES = 64 * 1024  # As much of an error body as is read.
MODEL_ERROR_CHARS = 600  # As much of a provider's text as a client sees.
MODELS_LEARNT = 1_000  # Model names whose refused parameters are remembered; clients choose names.
REHEARSAL_CALLS = 1_000  # Calls that the rehearsal provider lists.
REHEARSAL_DIMENSIONS = 4_096  # Of a hash embedding; more would only cost memory.
REHEARSAL_BODY_BYTES = 1024 * 1024  # A longer body is listed without its content.

# The store.
COMMIT_BATCH = 256  # Callers packed into one transaction.
WRITE_QUEUE = 20_000  # Waiting callers; beyond it the store is Unavailable.
GC_OBJECTS = 20_000  # Between looks for garbage in cycles, which is rare: Python's 700 cost 10 %.
HEAPS = 2  # Of a server, for all its threads.
GIVE_BACK_S = 30.0  # Between two times that a process gives free memory back.
MESSAGES_READ_ALONG = 16  # With the commit that begins a run, each of at most so many bytes, since
MESSAGE_READ_ALONG_BYTES = 16 * 1024  # others' commits wait for it.
COUNTED_TEXTS = 256  # Whose tokens are remembered, of at most so many characters each: the
COUNTED_CHARS = 4_096  # instructions and tools that each run of an assistant counts again.
DECODED_OBJECTS = 256  # Remembered, of at most so many bytes of JSON each: some 4 MB in all.
DECODED_BYTES = 4_096
LOOKS_IN_A_ROW = 16  # Reads by key that are done on the loop before others have their turn.
READ_BATCH = 32  # Reads answered with one wake-up ...
READ_BATCH_S = 0.005  # ... unless they take longer than this: then the first would wait.
READ_QUEUE = 20_000  # Waiting readers; beyond it the store is Unavailable.
WRITER_READ_BYTES = 128 * 1024  # Of the socket to a writer's process at once.
TOLD_BYTES = 64 * 1024  # Before a transaction is durable: less than a socket's buffer holds.
LOCK_WAIT_S = 2.0  # For the writer of a killed server, which finishes what it was asked for.
LOCK_LOOK_S = 0.02
STATEMENT_CACHE = 200  # Prepared statements per connection: all of queries.sql, twice.
# Of 4 KB; when SQLite's log has got longer by these, it is folded into the file. Who commits just
# then waits 15 to 40 ms for the disk: every 85th run at 4,000 pages, every 340th at these.
WAL_PAGES = 16_000
WAL_PAGES_BEHIND = 12_000  # Written while that goes on; then commits wait for it.
WAL_PASSES = 4  # At most so often for what was written meanwhile, before commits wait for the rest.
BUSY_TIMEOUT_MS = 5_000  # Only a checkpoint or a backup tool can hold the file for a moment.
CONNECTIONS = 10  # To PostgreSQL, per process; a setting. Its own default is 100 for all.
CONNECT_S = 5.0  # To PostgreSQL; an attempt that takes longer would not end well.
STATEMENT_S = 10.0  # Of one trip to PostgreSQL; a server or network that hangs is given up then.
LINE_WAIT_S = 10.0  # For one of those connections; who waits longer would rather be told.
LINE_IDLE_S = 120.0  # Then it is made anew: balancers forget connections after 4 to 10 minutes.
MIGRATION_S = 3_600.0  # Of one migration, and of the wait for another server's.
MIGRATION_LOOK_S = 0.1  # Between looks whether the other server is done.
MIGRATION_LOCK_S = 1.0  # A migration that waits for a table has everybody else wait, too,
MIGRATION_RETRY_S = 2.0  # who have this long before it waits again.
DATABASE_RETRY_S = 0.1  # Between attempts of a commit that broke or met a deadlock, some twice as
DATABASE_RETRY_MOST_S = 1.0  # long each time and never longer than this.
OUTCOME_S = 12.0  # Of all attempts of a call, and of finding out what became of them: no lease.
DELTAS_UNSURE_S = 3.0  # PostgreSQL writes what it need not at once within 0.6 s by default.
COMMITS_KEPT_S = 24 * 3600.0  # The number of a connection's last one: no attempt takes so long.
CLOCK_S = 5.0  # Between looks at the record's clock.
CLOCK_DRIFT = 1e-3  # Of two clocks by each other: both may be mended by 500 millionths at most.
COPY_ROWS = 10_000  # Of one transaction of a copy, ...
COPY_BYTES = 4 * 1024 * 1024  # ... which has no more than these, and the row that passes them.
COPY_STATEMENT_S = 3_600.0  # To count the rows of a table, or to look at all for statistics.
COPY_LOCK_S = 10.0  # For a copier that was killed: PostgreSQL finishes what it was asked for.
COPY_CACHE_KIB = 64 * 1024  # Of SQLite's pages: rows go to random places of its indexes.
COPY_BLOBS_AT_ONCE = 4  # Most are small, and wait for the answers of an object store.
COPY_SEEN_S = 30.0  # A server that was seen within these may be there: it says so every 3.75 s.
COPY_TOLD_S = 1.0  # Between two lines about how far a copy is.
COPY_DIFFERENCES = 10  # That are told one by one.
CLAIM_URGENT = 100  # Expired or cancelled jobs taken per claim, whatever the free slots.
DELETE_BATCH = 500  # Children removed per background step.
FREE_BYTES_FLOOR = 64 * 1024 * 1024
FREE_BYTES_FOR_BLOBS = 2 * FREE_BYTES_FLOOR  # Files stop growing before the record must.

# The bell between processes.
BELL_TOPICS_WAITING = 20_000  # Rung and not sent yet; beyond it the message is `all of them`.
BELL_TOPICS_TOGETHER = 2_000  # Of one transaction that notifies: a dozen notifications.
BELL_NOTIFY_BYTES = 7_999  # Of a notification; PostgreSQL takes less than 8,000.
BELL_GAP_S = 0.01  # Between a notification and the next: at most 100 a second for each process.
BELL_GAP_BENEATH_S = 0.5  # The same while NATS is quicker anyway.
BELL_SILENCE_S = 10.0  # A connection without any answer for this long is cut.
BELL_CONNECT_S = 5.0
BELL_BACKOFF_S = 0.25  # Before the first try to connect again, doubled for each other one.
BELL_BACKOFF_MOST_S = 5.0
BELL_CLOSE_S = 2.0  # To send what has just rung, and to say goodbye.
NATS_GAP_S = 0.005  # Between two messages of topics: 200 a second cost each reader some 1 %.
NATS_CONNECT_S = 2  # A server's start waits for it when NATS is down.
NATS_MESSAGE_BYTES = 64 * 1024  # Of topics; servers may refuse more than 1 MB.
NATS_TOLD = 10_000  # Messages for live streams that wait to be sent, and their bytes; what comes
NATS_TOLD_BYTES = 4 * 1024 * 1024  # then is dropped, and the streams' readers ask the record.
NATS_HEARD = 1_000  # The same for those that arrived for one topic and have not been handed on.
NATS_HEARD_BYTES = 4 * 1024 * 1024
NATS_PENDING_BYTES = 2 * 1024 * 1024  # Handed to the client and not to the socket; then we wait.

# Blobs and files.
BLOB_PIECE_BYTES = 1024 * 1024  # Of one read; a slow client holds one piece.
BLOB_BUFFER_BYTES = 1024 * 1024  # Of a write into a folder; many uploads come at once.
BLOB_PART_BYTES = 5 * 1024 * 1024  # The same for object stores: S3 takes no less, 10,000 times.
BLOB_WRITES_AT_ONCE = 2  # Buffers of one upload on their way; more would only cost memory.
BLOB_CONNECT_S = 3.0  # To an object store; a lost packet of the handshake is sent again after 1 s.
BLOB_REQUEST_S = 30.0  # One request with its body: two parts at once, over a line of 3 Mbit/s.
BLOB_ANSWER_S = 10.0  # What moves a piece at most, with all its tries: who waits is a client.
BLOB_COPY_S = 120.0  # A store copies 512 MB within: one that does 5 MB/s.
BLOB_TRIES_AGAIN = 4  # Of one request that was refused, broken off or answered with a 5xx.
BLOB_BACKOFF_S = 0.1  # Before the second try; about doubled for each, up to the next number.
BLOB_BACKOFF_MOST_S = 2.0  # So all tries end within some seconds: then clients are told 503.
BLOB_TRY_WITHIN_S = 10.0  # No try begins later, so that one that hung is not hung on again.
BLOB_ABORT_S = 3.0  # To take back what was uploaded of a blob, twice; a drain has 9 s.
BLOB_CLAIM_S = 2 * 3600  # No put lasts longer: its promise to delete is kept after this.
BLOB_RETRY_S = 60.0  # Between the first two tries to delete a blob; doubled for each ...
BLOB_RETRIES_COUNTED = 5  # ... up to this one, and 16 minutes: thousands may wait for a store.
FILE_BYTES = 512 * 1024 * 1024  # SPEC appendix B, as the next two.
PART_BYTES = 64 * 1024 * 1024
UPLOAD_BYTES = 8 * 1024 * 1024 * 1024
UPLOAD_PARTS = 10_000  # Of one upload; the SDKs make 128 at most.
UPLOAD_TTL_S = 3_600
FILE_EXPIRY_LEAST_S = 3_600
FILE_EXPIRY_MOST_S = 2_592_000
FILES_LIST_MAX = 10_000  # Default and maximum of the list of files.
FILENAME_CHARS = 1_024  # Four times what a folder takes.
FORM_TOTAL_S = BLOB_CLAIM_S - 300  # Of a form, however steadily it trickles in.
FORM_PARTS = 64  # Ours have five.
FORM_BOUNDARY_BYTES = 200  # RFC 2046 allows 70.
FORM_HEADERS = 16  # Of a part; there are three in use.
FORM_HEADER_BYTES = 16 * 1024  # The longest name, percent-encoded, and its frame.
FORM_TEXT_BYTES = 256 * 1024  # All fields that are no file, together.
FORM_FRAME_BYTES = 1024 * 1024  # What a declared length may have beyond the file.
IMAGE_BYTES = 20 * 1024 * 1024  # Of one image sent to the provider; the original's limit.
IMAGES_BYTES = 50 * 1024 * 1024  # Of all images of one request: it is one JSON text in memory.
LINGER_S = 2.0  # A refused body is read on for this long, so that its sender reads the refusal.
LINGER_IDLE_S = 0.2  # Who sends nothing for this long is not sending any more.

# Indexing files and searching them.
INGESTS_AT_ONCE = 2  # Stores whose files one process indexes at the same time: CPU work.
INGEST_FILES_AT_ONCE = (
    8  # Files of one store at work: while one is read, others are embedded or saved.
)
INGEST_PAGE = 32  # Files taken up with one read.
INGEST_SLICE_S = 3.0  # Then another store gets its turn, if one waits.
INGEST_FILE_SLICE_S = 30.0  # The same in the middle of a file, which is read again then.
INGEST_PARTS_TOGETHER = 8  # Parts of a file in one commit.
INGEST_PARTS_AHEAD = 4  # Read while others are stored; each is some hundred KiB.
INGEST_COMMIT_S = 1.0  # What was made so long ago is stored without waiting for more.
INGEST_ATTEMPTS = 5  # Of one file, when the embedder or the disk fails for a moment.
INGEST_BACKOFF_S = 0.5
INGEST_AWAY_S = 10.0  # Between two looks at a file whose bytes cannot be read; it never fails so.
INGEST_TAKEOVERS = 10  # A file at hand at more deaths of a worker than this is failed.
VIEWS_CACHED = 1_000  # Stores whose list of documents is kept in memory.
VECTOR_CACHE_BYTES = 512 * 1024 * 1024  # Vectors kept in memory, of all stores together.
SHORT_PRODUCT = 4_000_000  # Numbers multiplied in a millisecond: a thread is not worth its switch.
VECTOR_BLOCK_BYTES = 64 * 1024 * 1024  # Of one of a store's blocks; joining two copies as much.
VECTOR_READ_PARTS = 64  # Parts read from the record at once.
RERANK_S = 30.0  # The most that a search waits for its reranker.
RERANK_BYTES = 4 * 1024 * 1024  # Of a reranker's answer: some echo the texts.
RERANKED = 50  # Passages shown to the reranker, at least; more where more results are wanted.
CONTENT_CHUNKS = 1_000  # Rows of a file's text that are read at once.
REWRITE_S = 20.0  # Then a search goes on with the queries as they are.
REWRITTEN_QUERIES = 3  # More would be a search for something else.
REWRITTEN_CHARS = 4_096  # Of a model's answer that should be three lines.
CLEAN_UP_BATCHES = 200  # Of one lease.
CLEAN_UP_CHUNKS = 500  # Removed per commit.

# Doors.
KEY_CACHE_S = 30.0  # How long a revoked key may still open the door of a process.
KEYS_CACHED = 10_000
HEALTH_WAIT_S = 1.0  # /health answers within this, whatever the provider does.
HEALTH_CACHE_S = 5.0
PROBE_S = 0.3  # The look for local model servers at start, in all.
SHUTDOWN_S = 9.0  # Connections get this long after SIGTERM; the drain ends streams before.
KEEP_ALIVE_IDLE_S = 75  # Above what proxies and SDK pools keep idle, so that they close first.

# Search.
TERM_CHARS = 64  # Longer runs of letters are no words: keys, hashes, encoded data.
TOKENS_CACHED = 100_000  # Spellings whose terms are remembered: some 30 MB.
TOKENS_PER_CHARACTER = 4  # A character has at most four bytes, and a token at least one.
TOKENISED_CHARS = 256 * 1024  # Of a text at once, so that a book needs no gigabyte of tokens.
PART_CHUNKS = 64  # Stored in one commit: some 100 KB of text.
POSTINGS_READ = 20_000  # Above it a query leaves its commonest terms out (DECISIONS).
COMMON_SHARE = 0.3  # Of the chunks; a term of fewer is never left out.
RAREST_KEPT = 3  # Terms of a query that are never left out.
CANDIDATES = 200  # Of each side that are fused; a chunk further down is found by neither.
MERGED_CHUNKS = 3  # Neighbours that become one result; more would crowd out other documents.
EMBEDDER_PAUSE_S = 60.0  # Between two looks for an embedding model at the provider.
EMBEDDED_TEXTS = 64  # Of one call to a provider: a part. Few take more than some hundred.
EMBEDDED_TEXT_TOKENS = 8_000  # The least that big providers take; what a small one takes is learnt.
EMBEDDED_BATCH_TOKENS = 100_000  # Of one call; the smallest cap known is 120,000.
EMBEDDED_LEAST_TOKENS = 32  # A text that is refused at this length is refused for another reason.
EMBEDDING_ATTEMPTS = 5  # Of one call; the job that asks for it comes back later anyway.
EMBEDDING_BACKOFF_S = 0.5  # Doubled for each attempt.
EMBEDDING_WAIT_S = 20.0  # A provider that asks for more has failed for now.
EMBEDDED_WINDOW = 256  # Tokens; small models were taught with no more, and attention is quadratic.
EMBEDDED_TOKENS = 4_096  # Of one batch of a local model: a query waits for no more than that.
EMBEDDER_THREADS = 2  # Of a local model; the API must stay quick beside it.
FINGERPRINT_SAMPLES = 16  # Of a model file, to tell it from another.
FINGERPRINT_BYTES = 16 * 1024  # Of each sample.

# Reading files.
READER_START_S = 60.0  # A child of a busy machine is still importing; it needs half a second.
READER_SILENCE_S = 300.0  # Without a word of the child; its 60 s may last so on a busy machine.
READER_DYING_S = 5.0  # From the end of its output to its own; a core dump is off.
READER_IDLE_S = 60.0  # An idle child holds some 100 MB.
READER_FILES = 1_000  # Per child; then a fresh one, whatever the libraries have leaked.
READER_RESIDENT_BYTES = 160 * 1024 * 1024  # A child that has grown above it is not kept.
READER_SHARED_BYTES = 272 * 1024 * 1024  # RLIMIT_AS beside other readers; 20 MB of text take it.
READER_ADDRESS_BYTES = 448 * 1024 * 1024  # The same alone, for a file that needed more than that.
READER_CPU_S = 60  # Of reading one file; 1,000 pages of PDF take 2 s.
READER_PART_CPU_S = 30  # Of making one part, which takes some hundredths.
READER_OPEN_FILES = 64
READER_STARTS = 2  # Tries to start a child for one file.
READER_FRAME_BYTES = 64 * 1024 * 1024  # A part of 64 chunks, in a text of many spaces.
READER_DETAIL_CHARS = 600  # Of a traceback that a child hands to the log.
SNIFFED_BYTES = 64 * 1024  # As much of a file is looked at to tell what it is.
DETECTED_BYTES = 64 * 1024  # As much of a text that is no UTF-8 is looked at to tell its encoding.
TEXT_BYTES = 64 * 1024 * 1024  # Of a text file: three times 5,000,000 tokens of English.
PARSED_TEXT_CHARS = 40_000_000  # Of any file's text; 5,000,000 tokens are some 22,000,000.
FILE_TOKENS = 5_000_000  # SPEC 7.6.
SAMPLED_PIECES = 32  # Of a long text that are counted, spread over all of it.
SAMPLED_SHARE = 0.75  # Of the tokens allowed: a sample is believed that is further off.
ARCHIVE_ENTRIES = 10_000  # Of an office file; one with 1,000 pictures has some 3,000.
ARCHIVE_DIRECTORY_BYTES = 4 * 1024 * 1024  # The list of these entries.
UNPACKED_BYTES = 200 * 1024 * 1024  # Of all that is read of an office file (DECISIONS).
UNPACKED_RATIO = 300  # XML packs 30 times smaller, a bomb 1,000 times.
UNPACKED_FREE_BYTES = 16 * 1024 * 1024  # Below it the ratio is no matter.
XML_DEPTH = 1_000  # Nesting of an office file's elements: tables in tables have some 50.
OLE_STREAM_BYTES = 128 * 1024 * 1024  # The text of a .doc; its pictures are in another stream.

# Sandbox: one call, one session, all of them (docs/sandbox.md).
CODE_S = 60.0  # Soft limit of a call: KeyboardInterrupt, and the variables stay.
CODE_GRACE_S = 1.0  # After it the process is killed.
CODE_WATCH_S = 5.0  # After that the server ends the whole session from outside.
CODE_LOGS_BYTES = 64 * 1024  # Kept of what one call prints; the rest is counted.
CODE_LOGS_READ_CHARS = 20_000  # Of those, what the model reads of one call.
CODE_IMAGES = 20  # Of one call.
CODE_IMAGE_BYTES = 10 * 1024 * 1024
CODE_FILES = 100  # Saved of what one call wrote or changed.
CODE_FILE_BYTES = FILE_BYTES  # Of one of them.
CODE_FILES_SEEN = 1_000  # Of a listing, nearest first.
CODE_FOLDER_DEPTH = 8
CODE_FOLDER_FILES = 20_000  # Inodes of /mnt/data.
CODE_FOLDER_BYTES = 512 * 1024 * 1024  # Of /mnt/data, which is memory.
CODE_TMP_BYTES = 64 * 1024 * 1024  # Of /tmp and of /dev/shm, each.
CODE_PROCESS_BYTES = 512 * 1024 * 1024  # Memory of a process, above what it starts with.
CODE_SESSION_BYTES = 1024 * 1024 * 1024  # Memory of all processes of a session.
CODE_PROCESSES = 64  # With their threads.
CODE_OPEN_FILES = 512
CODE_CALLS_AT_ONCE = 8  # At least; twice the processors where that is more. Others wait.
CODE_SESSIONS = 200  # The longest unused one goes first.
CODE_SPARE_SESSIONS = 4  # Made ahead, so that nobody waits.
CODE_IDLE_S = 3600.0
CODE_AGE_S = 12 * 3600.0
CODE_FRAME_BYTES = 1024 * 1024  # A piece of a file on its way in or out.
CODE_INTERRUPT_S = 0.5  # For code whose run was cancelled to end by itself.
CODE_IMAGE_PIXELS = 16_000_000  # Of a figure; a larger one is drawn at a lower resolution.
CODE_START_S = 30.0  # For one session to start; with its own imports, and on a busy machine.
CODE_WARM_UP_S = 120.0  # For all imports, from a cold disk, on a busy machine.
CODE_ANSWER_S = 20.0  # For a session to list its files, or to take or give a piece of one.
CODE_CLOSE_S = 2.0  # For a session to end by itself.
CODE_FRAMES_WAITING = 64  # Heard of a session and not yet looked at.
CODE_ZYGOTE_SESSIONS = 1_000  # Then a fresh one takes over, whatever the old one has leaked.

# The same on a Jupyter server.
JUPYTER_ANSWER_S = 5.0  # For an answer over HTTP that starts nothing.
JUPYTER_BODY_BYTES = 1024 * 1024  # Of such an answer.
JUPYTER_MESSAGE_BYTES = 16 * 1024 * 1024  # One message: the largest image in base64, and its frame.
JUPYTER_CALL_CHARS = 512 * 1024 * 1024  # All messages of a call: 20 such images, and more.
JUPYTER_IDLE_S = 1.0  # From a call's answer to the end of its output: they come on two ways.
JUPYTER_RETRY_S = 30.0  # Between two self-tests that fail.

# The sandbox's own Python environment.
SANDBOX_SMALL_BYTES = 400_000_000  # Room that an install asks for: packages, and wheels meanwhile.
SANDBOX_FULL_BYTES = 900_000_000
SANDBOX_INSTALL_S = 1800.0  # Of pip, over the slowest line that is worth waiting for.
SANDBOX_PROOF_S = 120.0  # For all imports, from a cold disk, on a busy machine.
