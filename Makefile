# queue: a job queue inside PostgreSQL.
#
#   make && sudo make install     build and install for the server of pg_config (or PG_CONFIG=...)
#   make install-pgmq             the same, and the name pgmq for extension queue_pgmq, for clients that create it themselves
#   make installcheck             regression and isolation tests against a running server, as with any PGXS extension
#   make demo                     install what is needed, build, and show it on a private cluster (KEEP=1: stay in psql)
#   make check                    install what is needed, build with -Werror, run every test on private clusters
#   make check-matrix             make check on this machine and, in chroots, on PostgreSQL 17 and 18
#   make check-upgrade            pg_upgrade from 15 to them, there (OLD=15)
#   make check-newcomer           the commands of README.md from nothing, and the Dockerfile's steps, in a chroot of Debian 12
#   make check-hostile            make check on clusters with other people's publications, privileges and settings
#   make check-mutants            does the suite notice when a rule is gone?  (test/mutants; an hour)
#   make check-web                queue-web alone: its endpoints, and its pages in a real Chromium
#   make web                      build queue-web, the pages and metrics (web/); sudo make install-web installs it
#   make chaos                    a minute (QUEUE_CHAOS_SECONDS=3600: an hour) of test/t/401_chaos.pl
#   make long                     minutes (LONG_MINUTES, LONG_CHANGES: hours) of jobs and changes: nothing grows
#   make fuzz                     libFuzzer on what reads what comes from outside (10 minutes each; FUZZ_SECONDS)
#   make check-cassert            the suites on a PostgreSQL with assertions, built from source (VERSIONS="15 17")
#   make check-asan               the same with the address and undefined behaviour sanitizers in the library
#   make check-valgrind           a choice of them on a server under valgrind (ALL=1: all)
#   make check-static             cppcheck and clang's analyzer find nothing
#   make bench                    beside its peers, and every other figure that is promised, measured here; hours
#   make bench-quick              beside its peers in short; some minutes
#   make bench-doc                beside its peers, written into doc/performance.md
#   make doc                      doc/reference.md from the catalog's comments, and what the pages' SQL prints; read the diff
#   make dist                     queue-VERSION.zip of what is committed, for PGXN
#   make deb                      Debian packages for the servers of this distribution, checked, installed, tried (root)
#
# All but the first two lines work before PostgreSQL is installed: they call a script or
# another Makefile and read no pg_config while this file is parsed.

SCRIPT_GOALS = demo check check-hostile check-matrix check-upgrade check-newcomer newcomer docker-steps check-mutants chaos long fuzz check-cassert check-asan check-valgrind check-static bench bench-quick bench-doc doc dist deb check-web web install-web uninstall-web clean-web

ifneq ($(filter $(SCRIPT_GOALS),$(MAKECMDGOALS)),)

.PHONY: $(MAKECMDGOALS)

demo:
	@test/demo.sh
check:
	@test/check.sh
check-web:
	@SUITES="tap pages" TESTS="pages $(basename $(notdir $(wildcard test/t/3*.pl)))" test/check.sh
check-hostile:
	@QUEUE_HOSTILE=1 SUITES="regress isolation pgtap unloaded tap clients docs" test/check.sh
check-matrix:
	@test/matrix.sh
check-upgrade:
	@test/upgrade.sh
# in the container or chroot that it is called in
newcomer:
	@test/newcomer.sh
docker-steps:
	@packaging/docker.sh
check-newcomer:
	@MATRIX_GOAL=newcomer test/matrix.sh bookworm
	@MATRIX_GOAL=docker-steps test/matrix.sh bookworm
check-mutants:
	@test/mutants.sh
long:
	@test/long.sh
chaos:
	@QUEUE_CHAOS_SECONDS=$${QUEUE_CHAOS_SECONDS:-60}; export QUEUE_CHAOS_SECONDS; \
		SUITES=tap TESTS=401_chaos TAP_TIMEOUT=$$((4 * QUEUE_CHAOS_SECONDS + 600)) test/check.sh
fuzz:
	@test/fuzz/run.sh
check-cassert:
	@test/cassert.sh
check-asan check-valgrind:
	@test/sanitize.sh $(@:check-%=%)
check-static:
	@test/static.sh
bench:
	@test/bench/run.sh
bench-quick:
	@QUICK=1 test/bench/suite.sh
bench-doc:
	@test/bench/suite.sh --write
doc:
	@test/docs.sh --write
dist: VERSION = $(shell sed -nE 's/^   "version": "(.*)",/\1/p' META.json)
dist:
	git archive --format=zip --prefix=queue-$(VERSION)/ -o queue-$(VERSION).zip HEAD
deb:
	@packaging/debian.sh
web:
	@$(MAKE) --no-print-directory -C web
install-web uninstall-web clean-web:
	@$(MAKE) --no-print-directory -C web $(@:-web=)

# Other goals on the same command line, as in `make install check`.
$(filter-out $(SCRIPT_GOALS),$(MAKECMDGOALS)):
	@$(MAKE) --no-print-directory $@

else

EXTENSION = queue queue_pgmq
MODULE_big = queue
# Where this file is: another folder than the build's with `make -f .../Makefile` (VPATH).
TOP := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))
DATA = $(patsubst $(TOP)/%,%,$(sort $(wildcard $(TOP)/sql/*--*.sql)))
OBJS = $(patsubst $(TOP)/%.c,%.o,$(sort $(wildcard $(TOP)/src/*/*.c)))

# Empty, so that a compiler newer than this release builds it too; make check sets -Werror.
WERROR ?=
# -MMD: the compiler writes each object's true dependencies beside it; -MP: a header may vanish.
PG_CFLAGS = -Wall -Wmissing-prototypes -Wshadow=compatible-local $(WERROR) -MMD -MP
PG_CPPFLAGS = -I$(TOP)/src -Isrc
SHLIB_LINK = -lcurl -lpthread

# No JIT bitcode: nothing here is worth inlining into a query, and it doubles the build and needs the server's clang.
override with_llvm = no

# Files named preload_* need shared_preload_libraries = 'queue'; only `make check` runs those, on its own cluster.
PRELOAD_TESTS := preload_%
REGRESS := $(filter-out $(PRELOAD_TESTS),$(sort $(foreach f,$(notdir $(wildcard $(TOP)/sql/*.sql)),$(if $(findstring --,$(f)),,$(basename $(f))))))
REGRESS_OPTS = --inputdir=$(srcdir)
ISOLATION := $(filter-out $(PRELOAD_TESTS),$(sort $(basename $(notdir $(wildcard $(TOP)/test/isolation/specs/*.spec)))))
ISOLATION_OPTS = --inputdir=$(srcdir)/test/isolation --outputdir=output_iso

EXTRA_CLEAN = $(OBJS:.o=.d) src/config/columns.inc results regression.diffs regression.out output_iso tmp_check

PG_CONFIG ?= pg_config
PGXS := $(wildcard $(shell $(PG_CONFIG) --pgxs 2>/dev/null))

ifneq ($(PGXS),)

include $(PGXS)

# Whatever the server's defaults are; and without the notice of CREATE EXTENSION that the library is not preloaded.
installcheck: export PGOPTIONS := -c client_min_messages=warning -c default_transaction_isolation=read\ committed $(PGOPTIONS)

# What columns the tables have, for config/catalog.c.
src/config/catalog.o: src/config/columns.inc
src/config/columns.inc: $(TOP)/sql/queue--1.0.sql $(TOP)/src/config/columns.awk
	awk -f $(TOP)/src/config/columns.awk $< >$@.new && mv $@.new $@

# A build elsewhere needs the folders; a rule would find the source's own ones through VPATH.
ifneq ($(TOP),.)
$(shell mkdir -p $(sort $(dir $(OBJS))))
endif

# CREATE EXTENSION pgmq, for clients that do so themselves: the name alone, on top of queue_pgmq.  Not by default, because it
# is another project's; its own files are not overwritten.
PGMQ_FILES := packaging/pgmq.control packaging/pgmq--1.0.sql
PGMQ_DIR = $(DESTDIR)$(datadir)/extension

.PHONY: install-pgmq uninstall-pgmq
uninstall: uninstall-pgmq
install-pgmq: install
	@if [ -f '$(PGMQ_DIR)/pgmq.control' ] && ! grep -q queue_pgmq '$(PGMQ_DIR)/pgmq.control'; then \
		echo "pgmq itself is installed in $(PGMQ_DIR)" >&2; exit 1; fi
	$(INSTALL_DATA) $(addprefix $(TOP)/,$(PGMQ_FILES)) '$(PGMQ_DIR)/'
uninstall-pgmq:
	@if grep -qs queue_pgmq '$(PGMQ_DIR)/pgmq.control'; then \
		cd '$(PGMQ_DIR)' && rm -f $(notdir $(PGMQ_FILES)); fi

-include $(OBJS:.o=.d)

else

.PHONY: all install uninstall installcheck clean
all install uninstall installcheck clean:
	@echo "$(PG_CONFIG) leads to no PGXS. Install the server's development package" >&2
	@echo "(Debian, Ubuntu: postgresql-server-dev-NN), or run make demo, which does." >&2
	@exit 1

endif
endif
