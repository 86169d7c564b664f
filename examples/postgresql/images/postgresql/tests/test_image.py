"""What the image promises, looked at in a guest that was made from it: here its database is on the root disk."""


def test_it_answers_to_the_network(host):
    assert host.check_output("pg_isready") == "/var/run/postgresql:5432 - accepting connections"
    assert host.socket("tcp://0.0.0.0:5432").is_listening


def test_the_owner_of_the_data_has_the_number_that_stays(host, variables):
    user = host.user("postgres")
    assert user.uid == user.gid == variables["postgresql_uid"]


def test_the_settings_are_those_of_the_image(host, variables):
    shown = host.check_output("runuser -u postgres -- psql --no-align --tuples-only --command 'SHOW shared_buffers'")
    assert shown == variables["postgresql_shared_buffers"]
