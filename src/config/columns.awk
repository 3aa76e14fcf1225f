# The tables of the SQL script as rows of a C array: table, column, type.  What a table has of columns stands there and
# nowhere else; config/catalog.c compares a database with it.

BEGIN {
	split("bigint INT8OID int INT4OID smallint INT2OID boolean BOOLOID float8 FLOAT8OID text TEXTOID text[] TEXTARRAYOID " \
		"name NAMEOID oid OIDOID uuid UUIDOID interval INTERVALOID timestamptz TIMESTAMPTZOID jsonb JSONBOID " \
		"jsonpath JSONPATHOID queue.role_name InvalidOid", pair, " ")
	for (i = 1; i in pair; i += 2)
		oid[pair[i]] = pair[i + 1]
}

/^CREATE TABLE queue\.[a-z_]+ \(( *--.*)?$/ {
	table = substr($3, 7)
	next
}

/^\)/ { table = "" }

table != "" && $1 ~ /^[a-z_]+$/ {
	type = $2
	sub(/,$/, "", type)
	if (!(type in oid)) {
		print FILENAME ":" FNR ": add the type " type " to src/config/columns.awk" > "/dev/stderr"
		exit 1
	}
	printf "\t{\"%s\", \"%s\", %s},\n", table, $1, oid[type]
}
