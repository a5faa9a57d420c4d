"""One storage for the metadata log and for partitions, in Kafka's own files and formats.

    batches ──▶ Log.append ──▶ Segment ──▶ 00000000000000000000.log
                   │              └──────▶ .index, .timeindex     written on roll and close
                   ├── epochs: EpochChain ──▶ leader-epoch-checkpoint
    batches ◀── Log.read            Log.flush: may be called from another thread

    log            append, read, truncate, flush; recovers on open     (recovery, segment, index)
    record_batch   PURE  header of 61 bytes, checksum, build and read a batch
    records        PURE  one record: varints, headers, control records
    compression    PURE  gzip, snappy, lz4, zstd, within a limit of output
    snapshot       whole states beside a log, a file each: write, verify, name, read in chunks
    epochs         PURE  where each leader's epoch begins: what reconciles two logs
    checkpoint     small files replaced whole: write, sync, rename, sync the directory
    files          the port through which every byte reaches a disk; the simulator's seam

A log belongs to one thread; only `flush` may run beside it. A log whose disk has failed once
raises StorageError for ever: what was kept is found out by the next `open`.
"""
