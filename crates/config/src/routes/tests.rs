use super::*;
use crate::path::Segment;

/// Routes written as `GET,PUT /a/{b}` or `* /a`; each stands for its own text.
fn build(routes: &[&'static str]) -> Result<Routes<&'static str>, Vec<RouteConflict>> {
    Routes::build(routes.iter().map(|text| {
        let (methods, template) = text.split_once(' ').unwrap();
        let methods = match methods {
            "*" => Methods::All,
            list => Methods::Only(list.split(',').map(|method| Method::parse(method).unwrap()).collect()),
        };
        (RouteMatch::new(PathPattern::parse(template).unwrap(), methods), *text)
    }))
}

/// The route and its parameters, `405 ALLOW` or `404`, as text.
fn find(routes: &Routes<&'static str>, request: &str) -> String {
    let (method, path) = request.split_once(' ').unwrap();
    match routes.find(method, path, |_| true) {
        Lookup::Found { route, pattern, params } => {
            let params: String =
                params.iter(pattern, path).map(|(name, value)| format!(" {name}={value}")).collect();
            format!("{route}{params}")
        }
        Lookup::MethodNotAllowed { allow } => format!("405 {allow}"),
        Lookup::Unmet => "unmet".into(),
        Lookup::NotFound => "404".into(),
    }
}

fn check(routes: &[&'static str], table: &[(&str, &str)]) {
    // The order of the file must not matter.
    let reversed: Vec<_> = routes.iter().rev().copied().collect();
    for routes in [routes, &reversed] {
        let routes = build(routes).unwrap();
        for (request, expected) in table {
            assert_eq!(find(&routes, request), *expected, "{request}");
        }
    }
}

#[test]
fn the_most_specific_template_wins() {
    check(
        &["* /orders/{id}", "* /orders/new", "* /orders/{rest...}", "* /orders/{id}/items", "* /{rest...}"],
        &[
            ("GET /orders/new", "* /orders/new"),
            ("GET /orders/7", "* /orders/{id} id=7"),
            ("GET /orders/7/items", "* /orders/{id}/items id=7"),
            ("GET /orders/new/items", "* /orders/{id}/items id=new"),
            ("GET /orders/7/items/1", "* /orders/{rest...} rest=7/items/1"),
            ("GET /orders/", "* /orders/{rest...} rest="),
            ("GET /orders", "* /{rest...} rest=orders"),
            ("GET /", "* /{rest...} rest="),
        ],
    );
}

#[test]
fn a_literal_further_left_outweighs_everything_to_its_right() {
    check(
        &["* /a/{x}/{y}", "* /{x}/b/c", "* /a/{rest...}"],
        &[
            ("GET /a/b/c", "* /a/{x}/{y} x=b y=c"),
            ("GET /a/b", "* /a/{rest...} rest=b"),
            ("GET /z/b/c", "* /{x}/b/c x=z"),
            ("GET /z/b", "404"),
        ],
    );
}

#[test]
fn a_named_method_comes_before_all_methods() {
    check(
        &["GET /a/{id}", "* /a/{name}", "PUT,PATCH /a/{key}"],
        &[
            ("GET /a/1", "GET /a/{id} id=1"),
            ("PATCH /a/1", "PUT,PATCH /a/{key} key=1"),
            ("DELETE /a/1", "* /a/{name} name=1"),
        ],
    );
}

/// Otherwise a strange method on a protected path would reach the catch-all route with its laxer policy.
#[test]
fn a_method_never_leads_to_a_less_specific_template() {
    check(
        &["GET,POST /admin/users", "PUT /admin/{what}", "* /{rest...}"],
        &[
            ("POST /admin/users", "GET,POST /admin/users"),
            ("PUT /admin/users", "405 GET, POST"),
            ("DELETE /admin/users", "405 GET, POST"),
            ("GET /admin/other", "405 PUT"),
            ("get /admin/users", "405 GET, POST"),
            ("HEAD /admin/users", "405 GET, POST"),
            ("DELETE /admin", "* /{rest...} rest=admin"),
        ],
    );
}

#[test]
fn paths_that_no_template_takes() {
    check(
        &["* /a", "* /b/", "* /c/{id}"],
        &[
            ("GET /", "404"),
            ("GET /a/", "404"),
            ("GET /A", "404"),
            ("GET /b", "404"),
            ("GET /c/", "404"),
            ("GET /c/1/", "404"),
            ("GET ", "404"),
            ("GET a", "404"),
            ("OPTIONS *", "404"),
        ],
    );
    assert!(build(&[]).unwrap().is_empty());
    assert_eq!(find(&build(&[]).unwrap(), "GET /"), "404");
}

#[test]
fn parameters_of_a_branch_that_failed_are_forgotten() {
    check(
        &["* /{a}/{b}/x", "* /{c}/{rest...}"],
        &[("GET /1/2/x", "* /{a}/{b}/x a=1 b=2"), ("GET /1/2/y", "* /{c}/{rest...} c=1 rest=2/y")],
    );
}

#[test]
fn unreachable_routes_are_all_reported() {
    let conflicts =
        build(&["* /a/{x}", "GET /a/{x}", "* /a/{y}", "PUT,GET /a/{z}", "* /b/{r...}", "* /b/{s...}"]);
    let get = Some(Method::parse("GET").unwrap());
    assert_eq!(
        conflicts.unwrap_err(),
        [
            RouteConflict { first: 0, second: 2, method: None },
            RouteConflict { first: 1, second: 3, method: get },
            RouteConflict { first: 4, second: 5, method: None },
        ]
    );
}

#[test]
fn methods() {
    for good in ["GET", "M-SEARCH", "VERSION-CONTROL", "X"] {
        assert_eq!(Method::parse(good).unwrap().as_str(), good);
    }
    for bad in ["", "get", "Get", "GET ", "G T", "*", "GÉT", "A\nB"] {
        assert!(matches!(Method::parse(bad), Err(MethodError::NotAMethod(_))), "{bad:?}");
    }
    assert!(Method::parse(&"A".repeat(32)).is_ok());
    assert!(Method::parse(&"A".repeat(33)).is_err());
    assert_eq!(Method::parse("CONNECT"), Err(MethodError::Connect));
}

#[test]
fn many_siblings_are_found() {
    let texts: Vec<&'static str> =
        (0..100).map(|n| &*Box::leak(format!("* /s{n}/{{id}}").into_boxed_str())).collect();
    let routes = build(&texts).unwrap();
    assert_eq!(routes.len(), 100);
    for n in 0..100 {
        assert_eq!(find(&routes, &format!("GET /s{n}/7")), format!("* /s{n}/{{id}} id=7"));
    }
    assert_eq!(find(&routes, "GET /s100/7"), "404");
}

/// The tree agrees with the definition: sort by specificity, take the first template that matches.
#[test]
fn the_tree_agrees_with_a_linear_search() {
    let alphabet = ["a", "b", "{p}"];
    let mut templates =
        vec!["/{rest...}".to_owned(), "/a/{rest...}".to_owned(), "/{p}/b/{rest...}".to_owned()];
    for first in alphabet {
        templates.push(format!("/{first}"));
        for second in ["a", "b", "{q}", ""] {
            templates.push(format!("/{first}/{second}"));
            templates.push(format!("/{first}/{second}/b").replace("//", "/z/"));
        }
    }
    for mask in 0..4096_u32 {
        // A cheap way to many different subsets.
        let pick = |index: usize| (mask.wrapping_mul(2_654_435_761).rotate_left(index as u32 * 7) & 3) == 0;
        let chosen: Vec<PathPattern> = templates
            .iter()
            .enumerate()
            .filter(|(index, _)| pick(*index))
            .map(|(_, template)| PathPattern::parse(template).unwrap())
            .collect();
        let routes = Routes::build(
            chosen.iter().map(|p| (RouteMatch::new(p.clone(), Methods::All), p.as_str().to_owned())),
        );
        let Ok(routes) = routes else { continue };
        let rank = |pattern: &PathPattern| -> Vec<u8> {
            let kind = |segment: &Segment| match segment {
                Segment::Literal(_) => 0,
                Segment::Param(_) => 1,
                Segment::Rest(_) => 2,
            };
            pattern.segments().iter().map(kind).collect()
        };
        for path in ["/", "/a", "/c", "/a/", "/a/b", "/a/c", "/c/b", "/a/b/b", "/c/b/c", "/a/a/a/a", "/b//b"]
        {
            let best = chosen.iter().filter(|p| p.matches(path).is_some()).min_by_key(|p| rank(p));
            match routes.find("GET", path, |_| true) {
                Lookup::Found { route, pattern, params } => {
                    assert_eq!(Some(route.as_str()), best.map(PathPattern::as_str), "{path}");
                    assert_eq!(Some(params), pattern.matches(path), "{path}");
                }
                _ => assert_eq!(best, None, "{path}"),
            }
        }
    }
}

/// A condition on a header of this name.
fn asking(name: &str) -> Conditions {
    let present = condition::TextCondition::Present(true);
    Conditions { headers: [(name.into(), present)].into(), ..Conditions::default() }
}

fn asking_both(first: &str, second: &str) -> Conditions {
    let Conditions { mut headers, .. } = asking(first);
    headers.append(&mut asking(second).headers);
    Conditions { headers, ..Conditions::default() }
}

/// Routes as `(methods and path, conditions, name)`.
fn conditional(
    routes: &[(&str, Conditions, &'static str)],
) -> Result<Routes<&'static str>, Vec<RouteConflict>> {
    Routes::build(routes.iter().map(|(text, conditions, name)| {
        let (method, path) = text.split_once(' ').unwrap();
        let methods =
            if method == "*" { Methods::All } else { Methods::Only(vec![Method::parse(method).unwrap()]) };
        let path = match path.strip_prefix('~') {
            Some(regex) => PathPattern::parse_regex(regex).unwrap(),
            None => PathPattern::parse(path).unwrap(),
        };
        (RouteMatch { path, methods, conditions: conditions.clone() }, *name)
    }))
}

/// What a request with these headers gets.
fn found(routes: &Routes<&'static str>, request: &str, headers: &[&str]) -> &'static str {
    let (method, path) = request.split_once(' ').unwrap();
    let met = |conditions: &Conditions| conditions.headers.keys().all(|name| headers.contains(&&**name));
    match routes.find(method, path, met) {
        Lookup::Found { route, .. } => route,
        Lookup::MethodNotAllowed { .. } => "405",
        Lookup::Unmet => "unmet",
        Lookup::NotFound => "404",
    }
}

#[test]
fn of_one_path_and_method_more_conditions_come_first() {
    let routes = conditional(&[
        ("* /a/{id}", Conditions::default(), "any"),
        ("* /a/{id}", asking("x"), "x"),
        ("* /a/{id}", asking("y"), "y"),
        ("* /a/{id}", asking_both("x", "y"), "both"),
        ("PUT /a/{name}", asking("x"), "put"),
    ])
    .unwrap();
    for (request, headers, expected) in [
        ("GET /a/1", &[][..], "any"),
        ("GET /a/1", &["x"], "x"),
        ("GET /a/1", &["y"], "y"),
        ("GET /a/1", &["x", "y"], "both"),
        // The method counts before the conditions.
        ("PUT /a/1", &["x", "y"], "put"),
        ("PUT /a/1", &["y"], "y"),
    ] {
        assert_eq!(found(&routes, request, headers), expected, "{request} {headers:?}");
    }
}

/// Otherwise a header left away would lead from a protected path to the catch-all route with its laxer policy.
#[test]
fn a_condition_that_is_not_met_never_leads_to_another_path() {
    let routes = conditional(&[
        ("GET /admin/users", asking("x"), "admin"),
        ("* ~/v[0-9]/.*", asking("x"), "regex"),
        ("* ~/v1/.*", Conditions::default(), "later regex"),
        ("* /admin/{rest...}", Conditions::default(), "rest"),
    ])
    .unwrap();
    for (request, headers, expected) in [
        ("GET /admin/users", &["x"][..], "admin"),
        ("GET /admin/users", &[], "unmet"),
        ("PUT /admin/users", &["x"], "405"),
        ("GET /admin/other", &[], "rest"),
        ("GET /v1/a", &["x"], "regex"),
        ("GET /v1/a", &[], "unmet"),
        ("GET /v/a", &["x"], "404"),
    ] {
        assert_eq!(found(&routes, request, headers), expected, "{request} {headers:?}");
    }
}

#[test]
fn templates_come_before_expressions_and_these_in_the_order_of_the_file() {
    let routes = conditional(&[
        ("GET ~/v[0-9]+/x", Conditions::default(), "first"),
        ("* ~/v1/.*", Conditions::default(), "second"),
        ("* ~/v[0-9]+/x", Conditions::default(), "first, other methods"),
        ("* /v2/{what}", Conditions::default(), "template"),
    ])
    .unwrap();
    for (request, expected) in [
        ("GET /v1/x", "first"),
        ("PUT /v1/x", "first, other methods"),
        ("GET /v1/y", "second"),
        ("GET /v2/x", "template"),
        ("GET /v3/x/", "404"),
    ] {
        assert_eq!(found(&routes, request, &[]), expected, "{request}");
    }
}

#[test]
fn what_asks_for_nothing_more_is_never_reached() {
    let conflicts = conditional(&[
        ("* /a", asking("x"), "0"),
        ("* /a", asking("y"), "1"),
        ("* /a", asking("x"), "2"),
        ("* /a", asking_both("x", "y"), "3"),
        ("* ~/b+", Conditions::default(), "4"),
        ("* ~/b+", Conditions::default(), "5"),
    ]);
    assert_eq!(
        conflicts.unwrap_err(),
        [
            RouteConflict { first: 0, second: 2, method: None },
            RouteConflict { first: 4, second: 5, method: None }
        ]
    );
}

#[test]
fn templates_that_take_all_below() {
    for (template, prefix, expected) in [
        ("/{rest...}", "/", true),
        ("/{rest...}", "/v", true),
        ("/api/{rest...}", "/api/v", true),
        ("/api/{rest...}", "/api/", true),
        ("/api/{rest...}", "/api", false),
        ("/api/{rest...}", "/apix/y", false),
        ("/{a}/{rest...}", "/api/v", true),
        ("/{a}/{rest...}", "/ap", false),
        ("/api/x", "/api/", false),
    ] {
        let pattern = PathPattern::parse(template).unwrap();
        assert_eq!(pattern.takes_all_with(prefix), expected, "{template} {prefix}");
    }
}
