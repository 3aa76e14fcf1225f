-- Everything is in queue_pgmq, which this extension requires.
\echo Use "CREATE EXTENSION pgmq CASCADE" to load this file. \quit
